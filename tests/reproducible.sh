#!/bin/sh
# Builds the module here and once more elsewhere: in another directory, with other homes, one job at a time, in another time zone.
# Both must be the same bytes, and must not name a directory of this machine. Takes about half a minute.
set -eu
cd "$(dirname "$0")/.."
module=target/wasm32-wasip1/release/redis_sentinel_filter.wasm
cargo_home=${CARGO_HOME:-$HOME/.cargo}
elsewhere=$(mktemp -d)
trap 'rm -rf "$elsewhere"' EXIT
mkdir -p "$elsewhere/a clone of it" "$elsewhere/home/registry"
tar --exclude=./target --exclude=./.git -c . | tar -x -C "$elsewhere/a clone of it"
# What was downloaded is not downloaded again; it is unpacked anew.
for part in index cache; do
    [ -d "$cargo_home/registry/$part" ] || continue
    cp -al "$cargo_home/registry/$part" "$elsewhere/home/registry" 2>/dev/null ||
        cp -a "$cargo_home/registry/$part" "$elsewhere/home/registry"
done
if [ -f "$cargo_home/config.toml" ]; then cp "$cargo_home/config.toml" "$elsewhere/home"; fi

filter/build.sh --quiet
cp "$module" "$elsewhere/here.wasm"
(cd "$elsewhere/a clone of it" && RUSTUP_HOME=${RUSTUP_HOME:-$HOME/.rustup} HOME=$elsewhere/home CARGO_HOME=$elsewhere/home \
    CARGO_TARGET_DIR=target TZ=Pacific/Chatham LC_ALL=C filter/build.sh --quiet -j1)

hash_of() { sha256sum "$1" | cut -d' ' -f1; }
here=$(hash_of "$elsewhere/here.wasm")
there=$(hash_of "$elsewhere/a clone of it/$module")
if [ "$here" != "$there" ]; then
    echo "reproducible: NO: $here here, $there elsewhere" >&2
    exit 1
fi
for dir in "$cargo_home" "$HOME/" "$PWD" "$elsewhere"; do
    if grep -qaF "$dir" "$elsewhere/here.wasm"; then
        echo "reproducible: NO: the module names $dir" >&2
        exit 1
    fi
done
echo "reproducible: $here, twice, with $(rustc --version)"
