#!/bin/sh
# Lets two nodes go, a master and its replica, whichever of them is which now: moves their slots to the others, then has everybody
# forget them. Before the pods go:
#
#   kubectl -n redis exec redis-cluster-0 -- sh /scripts/scale-down.sh 7 6
#   kubectl -n redis scale statefulset redis-cluster --replicas=6
#   kubectl -n redis delete pvc data-redis-cluster-6 data-redis-cluster-7     (or they come back as strangers)
set -eu
. /scripts/common.sh
[ $# = 2 ] || { echo "usage: scale-down.sh <number> <number>" >&2; exit 2; }
me=$POD_IP # not 127.0.0.1: redis-cli hands it on to the other nodes, who move slots there

ids=
for n in "$1" "$2"; do
    id=$(echo CLUSTER MYID | ask "$(node "$n")")
    [ -n "$id" ] || { echo "$(node "$n") does not answer" >&2; exit 1; }
    ids="$ids $id"
done
settle $me
for id in $ids; do
    if echo CLUSTER NODES | ask $me | grep "^$id " | grep -q master; then
        manage rebalance $me:6379 --cluster-weight "$id=0" --cluster-threshold 1
    fi
done
sleep 6 # Envoy looks every 5 s at who has which slots; a node that was let go answers nobody
for id in $ids; do manage del-node $me:6379 "$id"; done
