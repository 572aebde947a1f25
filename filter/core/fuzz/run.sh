#!/bin/sh
# run.sh <seconds> [<target> [<input>]]: libFuzzer over every target, or one; over an input to see what it does.
#
# On the stable toolchain: without a sanitizer, which would need a nightly one and finds little where no unsafe code is.
set -eu
cd "$(dirname "$0")/../../.."
seconds=$1
only=${2:-}
input=${3:-}
export PATH="$PWD/target/tools/cargo-fuzz/bin:$PATH"
# The module's own profile is made for size and without symbols.
export CARGO_PROFILE_RELEASE_OPT_LEVEL=3 CARGO_PROFILE_RELEASE_LTO=false CARGO_PROFILE_RELEASE_STRIP=none
export CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
fuzz() { command=$1; shift; cargo fuzz "$command" --fuzz-dir filter/core/fuzz "$@"; }
options="--sanitizer none --features libfuzzer"

# shellcheck disable=SC2086 # options
if [ -n "$input" ]; then
    fuzz run "$only" $options "$input"
    exit
fi
# shellcheck disable=SC2086
fuzz build $options
for target in ${only:-$(fuzz list)}; do
    found=target/fuzz/$target
    mkdir -p "$found"
    log=target/fuzz/$target.log
    # What is found goes to the first directory; the corpus in the repository is only read.
    # shellcheck disable=SC2086
    fuzz run "$target" $options "$found" "filter/core/fuzz/corpus/$target" -- \
        -max_total_time="$seconds" -max_len=4096 -artifact_prefix="target/fuzz/crash-$target-" >"$log" 2>&1 || {
        grep -A 5 panicked "$log" || tail -n 20 "$log"
        echo "fuzz: $target is broken, see $log; make fuzz TARGET=$target INPUT=$(ls -t target/fuzz/crash-"$target"-* | head -n 1)" >&2
        exit 1
    }
    echo "fuzz: $target: $(sed -n 's/^#\([0-9]*\).*DONE *\(cov: [0-9]*\) *\(ft: [0-9]*\).*/\1 executions, \2, \3/p' "$log")"
done
