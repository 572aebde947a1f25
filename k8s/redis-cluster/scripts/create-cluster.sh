#!/bin/sh
# Makes a cluster of the first nodes, once. Run again it finishes what was begun, or finds that there is nothing to do: once
# any node knows an owner for every slot, the cluster exists, and whatever happens to it later is not this script's business.
set -eu
. /scripts/common.sh

last=$((FIRST_NODES - 1))
masters=$((FIRST_NODES / 2))

exists() {
    for n in $(numbers 0 $last); do
        [ "$(info_of "$(node "$n")" cluster_slots_assigned)" != 16384 ] || return 0
    done
    return 1
}

for n in $(numbers 0 $last); do
    until [ "$(echo PING | ask "$(node "$n")")" = PONG ]; do
        say "waiting for $(node "$n")"
        sleep 1
    done
done
if exists; then
    say "the cluster exists"
    exit 0
fi

say "introducing the nodes to each other"
for n in $(numbers 1 $last); do
    echo "CLUSTER MEET $(address_of "$(node "$n")") 6379" | ask "$(node 0)" >/dev/null
done
for n in $(numbers 0 $last); do
    until [ "$(info_of "$(node "$n")" cluster_known_nodes)" -ge "$FIRST_NODES" ]; do sleep 0.5; done
done

say "dividing the slots among $masters masters"
for n in $(numbers 0 $((masters - 1))); do
    [ "$(myself "$(node "$n")" | wc -w)" -le 8 ] || continue # it has its slots
    first=$((n * 16384 / masters))
    end=$(((n + 1) * 16384 / masters - 1))
    echo "CLUSTER ADDSLOTSRANGE $first $end" | ask "$(node "$n")" | grep -qx OK
done

say "giving each master a replica"
for n in $(numbers "$masters" $last); do
    master=$(echo CLUSTER MYID | ask "$(node $((n % masters)))")
    # A node cannot follow one that it has not heard of yet.
    until [ "$(echo "CLUSTER REPLICATE $master" | ask "$(node "$n")")" = OK ]; do sleep 0.5; done
done

for n in $(numbers 0 $last); do
    until [ "$(info_of "$(node "$n")" cluster_state)" = ok ]; do
        say "waiting for $(node "$n") to agree"
        sleep 0.5
    done
done
say "the cluster is up"
