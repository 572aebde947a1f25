#!/bin/sh
# Tells Redis where the other nodes are. A node knows the others by address, and never asks DNS: one that moved is found because
# it finds the others. When all pods come back at once with other addresses, nobody finds anybody. So, over and over: for each
# address behind the headless service that Redis does not know, ask who is there, and if it is a node of this cluster, MEET it:
# Redis then takes the new address for the node that it knows, and the nodes tell each other the rest.
#
# MEET can also join two clusters, for good, and what DNS says may be late: an address may be another node's by now, or a pod's of
# another cluster with the same password. Therefore names count for nothing here. Both sides must know each other by their ids, 160
# random bits that no two clusters share: this never makes a node known to anybody, it only corrects an address. Nor does it bring
# back a node that the others have forgotten (scale-down.sh).
set -eu
. /scripts/common.sh
trap 'exit 0' TERM # the first process of a container has no default for it

# Of the output of CLUSTER NODES on stdin:
own_id() { awk '$3 ~ /myself/ { print $1 }'; }
places() { awk '{ sub(/:[0-9]*@.*/, "", $2); print $1, $2, $3 }'; } # <id> <address> <flags>
has_id() { [ -n "$1" ] && grep -q "^$1 "; }

introduce() { # introduce <address>
    theirs=$(echo CLUSTER NODES | ask "$1")
    id=$(echo "$theirs" | own_id)
    if echo "$ours" | has_id "$id" && echo "$theirs" | has_id "$(echo "$ours" | own_id)"; then
        say "$id is at $1 now"
        echo "CLUSTER MEET $1 6379" | ask 127.0.0.1 >/dev/null
    fi
}

while :; do
    ours=$(echo CLUSTER NODES | ask 127.0.0.1)
    # An address whose node is thought to be down may be another node's meanwhile.
    settled=$(echo "$ours" | places | awk '$3 !~ /fail|handshake|noaddr/ { print $2 }')
    for address in $(addresses_of "redis-cluster-nodes.$NAMESPACE.svc.$CLUSTER_DOMAIN"); do
        echo "$settled" | grep -qxF "$address" || introduce "$address"
    done
    sleep 3 &
    wait $!
done
