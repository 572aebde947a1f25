#!/bin/sh
# Takes new nodes in, by pairs: a master, which gets its share of the slots, and its replica. After
# `kubectl -n redis scale statefulset redis-cluster --replicas=8`:
#
#   kubectl -n redis exec redis-cluster-0 -- sh /scripts/scale-up.sh 6 7
#
# Clients go on meanwhile. Run again it goes on where it was interrupted.
set -eu
. /scripts/common.sh
[ $# = 2 ] || { echo "usage: scale-up.sh <number of the new master> <number of its replica>" >&2; exit 2; }
me=$POD_IP # not 127.0.0.1: redis-cli hands it on to the other nodes, who move slots there

for n in "$1" "$2"; do
    until [ "$(echo PING | ask "$(node "$n")")" = PONG ]; do
        say "waiting for $(node "$n")"
        sleep 1
    done
    echo "CLUSTER MEET $(address_of "$(node "$n")") 6379" | ask $me >/dev/null
done
master=$(echo CLUSTER MYID | ask "$(node "$1")")
say "$(node "$2") follows $(node "$1")"
until [ "$(echo "CLUSTER REPLICATE $master" | ask "$(node "$2")")" = OK ]; do sleep 0.5; done
settle $me
manage rebalance $me:6379 --cluster-use-empty-masters --cluster-threshold 1
