#!/bin/sh
# Starts Sentinel. Its file in the volume is Sentinel's: which node is master, by which config-epoch, who else there is. What is
# ours in it (names, passwords, quorum and times) is put in anew at each start, so a change of the settings arrives.
#
# A new volume means a Sentinel that knows no master and says so. It then takes the one that other Sentinels name, or else the one
# Redis that runs as a master.
set -eu
. /scripts/common.sh
conf=/data/sentinel.conf
me=$POD_NAME.sentinel-nodes.$NAMESPACE.svc.$CLUSTER_DOMAIN
check_passwords

settings() { # of the monitored master
    echo "auth-pass $REDIS_PASSWORD"
    echo "down-after-milliseconds $DOWN_AFTER_MILLISECONDS"
    echo "failover-timeout $FAILOVER_TIMEOUT"
    echo "parallel-syncs $PARALLEL_SYNCS"
}

running_master() { # the Redis that runs as master with more replicas than any other one that does
    for node in $(numbers "$REDIS_NODES"); do
        node=$(redis_node "$node")
        echo ROLE | ask_redis "$node" | awk -v node="$node" 'NR == 1 { role = $1 } END { if (role == "master") print NR, node }'
    done | sort -rn | awk 'NR == 1 { most = $1; node = $2 } NR == 2 && $1 == most { node = "" } END { print node }'
}

adopt() {
    while [ "$(echo PING | ask_sentinel 127.0.0.1)" != PONG ]; do sleep 0.2; done
    while :; do
        master=$(all_sentinels_say | grep -v '^new$' | sort -rn | head -n 1 | cut -d' ' -f2)
        [ -n "$master" ] || master=$(running_master)
        if [ -n "$master" ] &&
            [ "$(echo "SENTINEL MONITOR $MASTER_NAME $master 6379 $QUORUM" | ask_sentinel 127.0.0.1)" = OK ]; then
            settings | sed "s/^/SENTINEL SET $MASTER_NAME /" | ask_sentinel 127.0.0.1 >/dev/null
            say "monitoring $master"
            return
        fi
        say "waiting: no other Sentinel names a master, and no Redis (or more than one) runs as one"
        sleep 1
    done
}

umask 077
[ -e "$conf" ] || : >"$conf"
{
    echo "port 26379"
    echo "dir /data"
    echo "protected-mode no"
    echo "requirepass $SENTINEL_PASSWORD"
    echo "sentinel sentinel-pass $SENTINEL_PASSWORD"
    # Names outlive pods, addresses do not.
    echo "sentinel resolve-hostnames yes"
    echo "sentinel announce-hostnames yes"
    echo "sentinel announce-ip $me"
    grep -Ev '^(port|dir|protected-mode|requirepass|user default|sentinel (sentinel-pass|resolve-hostnames|announce-hostnames|announce-ip|auth-pass|down-after-milliseconds|failover-timeout|parallel-syncs)) ' "$conf" |
        sed -E "s/^(sentinel monitor $MASTER_NAME [^ ]+ [^ ]+) .*/\\1 $QUORUM/" || true
    if grep -q "^sentinel monitor $MASTER_NAME " "$conf"; then
        settings | sed -E "s/^([^ ]+) /sentinel \\1 $MASTER_NAME /"
    fi
} >"$conf.new"
mv "$conf.new" "$conf"
grep -q "^sentinel monitor $MASTER_NAME " "$conf" || adopt &
exec redis-sentinel "$conf"
