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

# Of what Redis says of itself and the others, on stdin:
own_id() { awk '$3 ~ /myself/ { print $1 }'; }
own_master() { awk '$3 ~ /myself/ { print $4 }'; }
settled() { awk '$3 !~ /fail|handshake|noaddr/ { sub(/:[0-9]*@.*/, "", $2); print $1, $2 }'; } # <id> <address>
field() { sed -n "s/^$1://p"; }
has_id() { [ -n "$1" ] && awk -v id="$1" '$1 == id { found = 1 } END { exit !found }'; }
has_address() { awk -v address="$1" '$2 == address { found = 1 } END { exit !found }'; }

introduce() { # introduce <address>
    theirs=$(echo CLUSTER NODES | ask "$1")
    id=$(echo "$theirs" | own_id)
    if echo "$ours" | has_id "$id" && echo "$theirs" | has_id "$(echo "$ours" | own_id)"; then
        say "$id is at $1 now"
        echo "CLUSTER MEET $1 6379" | ask 127.0.0.1 >/dev/null
    fi
}

# What a node hears of its master's new address from a third one, Redis does not tell its own replication, which dials the old
# one for ever. To be told again whom it follows makes it look.
follow() {
    master=$(echo "$ours" | own_master)
    address=$(echo "$places" | awk -v id="$master" '$1 == id { print $2 }')
    if [ "$(echo "$ours" | field master_link_status)" = down ] && [ -n "$address" ] &&
        [ "$(echo "$ours" | field master_host)" != "$address" ]; then
        say "the master $master is at $address now"
        echo "CLUSTER REPLICATE $master" | ask 127.0.0.1 >/dev/null
    fi
}

while :; do
    ours=$(printf 'CLUSTER NODES\nINFO replication\n' | ask 127.0.0.1)
    # Without those that are thought to be down: their addresses may be other nodes' meanwhile.
    places=$(echo "$ours" | settled)
    # All at once, because an old address answers nobody for two seconds.
    for address in $(addresses_of "redis-cluster-nodes.$NAMESPACE.svc.$CLUSTER_DOMAIN"); do
        echo "$places" | has_address "$address" || introduce "$address" &
    done
    wait
    follow
    [ "${1:-}" != once ] || exit 0 # by hand
    sleep 3 &
    wait $!
done
