#!/bin/sh
# Builds the module, and so that the same source, Cargo.lock and Rust give the same bytes, whoever builds it and wherever:
# a panic's place names a source file, and files of other crates lie under a directory of the builder's.
# Arguments go to cargo.
set -eu
cd "$(dirname "$0")/.."
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
cargo fetch --locked --quiet --target wasm32-wasip1
unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS
flags=
for dir in "$registry"/*/; do
    flags="$flags'--remap-path-prefix=${dir%/}=/crates',"
done
# Where the sources of Rust's own library are installed, rustc names these in place of the public path.
library=$(rustc --print sysroot)/lib/rustlib/src/rust
commit=$(rustc -vV | sed -n 's/^commit-hash: //p')
flags="$flags'--remap-path-prefix=$library=/rustc/$commit',"
# The linker leaves five bytes for every number of a function and every address, whatever they need: a twelfth of the module.
flags="$flags'-Clink-arg=--compress-relocations'"
# What Envoy would call in vain is not exported.
RUST_LLD=$(rustc --print target-libdir --target "$(rustc -vV | sed -n 's/^host: //p')")/../bin/rust-lld
export RUST_LLD
flags="$flags,'-Clinker=$PWD/filter/link.sh'"
exec cargo build --locked -p redis-sentinel-filter --release --target wasm32-wasip1 \
    --config "target.wasm32-wasip1.rustflags=[$flags]" "$@"
