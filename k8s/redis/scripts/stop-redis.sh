#!/bin/sh
# Before this pod ends: if it is the master, have Sentinel promote a replica first. Clients behind the proxy then wait for a second
# and lose nothing. Bounded: a master without a good replica ends all the same.
set -eu
. /scripts/common.sh

me=$POD_NAME.redis-nodes.$NAMESPACE.svc.$CLUSTER_DOMAIN
[ "$(echo ROLE | ask_redis 127.0.0.1 | head -n 1)" = master ] || exit 0

# The Sentinel that leads tells the proxies in advance; one that has only just started may not have been found by all of them. So
# the one that is up for the longest leads, and in the first 15 s only if that is half a minute.
oldest_first() {
    least=30
    [ $(($(date +%s) - begin)) -lt 15 ] || least=0
    for number in $(numbers "$SENTINELS"); do
        uptime=$(echo INFO server | ask_sentinel "$(sentinel_node "$number")" | tr -d '\r' | sed -n 's/^uptime_in_seconds://p')
        echo "${uptime:--1} $number"
    done | sort -rn | awk -v least="$least" '$1 >= least { print $2 }'
}

begin=$(date +%s)
end=$((begin + 30))
asked=0
while [ "$(date +%s)" -lt "$end" ]; do
    master=$(most_sentinels_say) || master=unknown
    case $master in
    "$me")
        # Again after 10 s: a failover may have found no replica good enough.
        if [ $(($(date +%s) - asked)) -ge 10 ]; then
            for sentinel in $(oldest_first); do
                if [ "$(echo "SENTINEL FAILOVER $MASTER_NAME" | ask_sentinel "$(sentinel_node "$sentinel")")" = OK ]; then
                    asked=$(date +%s)
                    break
                fi
            done
        fi
        ;;
    unknown | new) ;;
    *)
        sleep 1 # for the last connections to leave
        exit 0
        ;;
    esac
    sleep 0.3
done
