#!/bin/sh
# Before this pod ends: if it is a master, have its replica take over first. Bounded: without a replica it ends all the same.
set -eu
. /scripts/common.sh

end=$(($(date +%s) + 20))
while [ "$(date +%s)" -lt "$end" ] && [ "$(echo ROLE | ask 127.0.0.1 | head -n 1)" = master ]; do
    me=$(myself 127.0.0.1)
    # Without slots there is nothing to hand over.
    [ "$(echo "$me" | wc -w)" -gt 8 ] || exit 0
    replica=$(echo CLUSTER NODES | ask 127.0.0.1 |
        awk -v master="${me%% *}" '$4 == master && $3 == "slave" && $8 == "connected" { print $2; exit }' | sed 's/:[0-9]*@.*//')
    [ -n "$replica" ] || exit 0
    echo CLUSTER FAILOVER | ask "$replica" >/dev/null
    sleep 1
done
