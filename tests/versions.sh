#!/bin/sh
# Runs the end-to-end core on every Envoy that `tests/setup.sh versions` fetched, and on Valkey where there is one. Prints a line
# for each, ends with an error if one of them failed. Takes about two minutes per line.
#
#   tests/versions.sh [<version>|valkey]...
set -u
cd "$(dirname "$0")/.."
tools=$PWD/target/tools
core="config:: startup:: failover:: replicas:: masters:: credentials:: tls:: ipv6:: names:: named_clusters:: pooled:: cluster::"

# What an older Envoy lacks, as the tests that show it. The table in the README says it in words.
lacks() {
    case $1 in
    1.36.*)
        # Where a connection goes can only be said as it opens: a waiting one is closed, not released, and not re-routed.
        echo "startup::envoy_may_start_before_everything_else failover::a_killed_master_costs_one_close"
        echo "named_clusters::each_node_is_reached_through_its_own_cluster names::a_dial_that_fails_goes_on_to_the_name_of_the_new_master"
        echo "replicas::readers_of_a_dead_replica"
        echo "names::a_client_waits_for_a_name_that_does_not_resolve_yet replicas::without_fallback_readers_wait_for_a_replica"
        # redis_proxy does not know HELLO.
        echo "pooled::the_limits_are_those_that_are_documented"
        ;;
    1.39.*)
        # Its resolver must not be used from a Wasm module: the module does not.
        echo "names::a_ names::announced_names_are_dialled_before_and_after_a_failover"
        ;;
    esac
}

run() { # run <what> [<variable>=<value>]...
    what=$1
    shift
    skip=
    for test in $(lacks "$what"); do skip="$skip --skip $test"; done
    log=$tools/versions-$what.log
    # shellcheck disable=SC2086 # lists of words
    if env "$@" cargo test --locked -p redis-sentinel-tests --test e2e -- --test-threads=2 $skip $core >"$log" 2>&1; then
        echo "$what: $(grep -a '^test result:' "$log")"
    else
        failed=1
        echo "$what: FAILED (whole log: $log)"
        grep -a '^test .*FAILED$\|^error' "$log"
    fi
}

failed=0
for what in ${*:-$(ls "$tools" | sed -n 's/^envoy-//p') valkey}; do
    case $what in
    valkey)
        if [ -x "$tools/valkey/redis-server" ]; then
            run valkey PATH="$tools/valkey:$PATH"
        else
            echo "valkey: no package for this system, not run"
        fi
        ;;
    *) run "$what" ENVOY="$tools/envoy-$what/envoy" ;;
    esac
done
exit $failed
