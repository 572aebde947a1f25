#!/bin/sh
# soak.sh [<runs> [<first seed>]]: the simulation over so many seeds in each weather, from a place where nobody has been;
# then with the core broken in every way that it must notice (mutations/list.txt).
set -eu
cd "$(dirname "$0")/../../.."
runs=${1:-100000}
first=${2:-$(($(date +%s) * 1000))}
# Optimised, and still with checks for overflow. The module's own profile is made for size.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=3 CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_STRIP=none
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OVERFLOW_CHECKS=true
echo "simulation: $runs runs in each weather, seeds from $first on"
FIRST=$first SEEDS=$runs cargo test --locked --release --quiet --target-dir target/soak -p redis-sentinel-core --test simulation -- --nocapture
filter/core/tests/mutations/run.py
