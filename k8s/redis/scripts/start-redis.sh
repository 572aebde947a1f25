#!/bin/sh
# Starts Redis as what most Sentinels say that it is: the master, or a replica of another one. It never decides that for itself:
# a master of yesterday that comes back as a master would take writes that are lost.
#
# Only where no Sentinel knows any master (the very first start, or all their volumes are gone) the Redis nodes decide, by what
# each remembers: /data/redis.conf, in which Sentinel noted the role at the last failover. A node is master if most nodes say so;
# nodes that remember nothing say redis-0.
set -eu
. /scripts/common.sh
trap 'exit 0' TERM INT

conf=/data/redis.conf
me=$POD_NAME.redis-nodes.$NAMESPACE.svc.$CLUSTER_DOMAIN
check_passwords

remembered() { # the master of last time
    if [ ! -e "$conf" ]; then
        redis_node 0
    else
        awk -v me="$me" '$1 == "replicaof" { master = $2 } END { gsub(/"/, "", master); print (master == "" ? me : master) }' "$conf"
    fi
}

role_of() { # role_of <host>: "master", or "slave <its master>", or nothing
    echo ROLE | ask_redis "$1" | awk 'NR == 1 { role = $1 } NR == 2 && role == "slave" { role = role " " $1 } END { print role }'
}

elected() { # whether most nodes remember this one as the master, and none runs as one
    votes=1
    for node in $(numbers "$REDIS_NODES"); do
        node=$(redis_node "$node")
        [ "$node" != "$me" ] || continue
        case $(role_of "$node") in
        master) return 1 ;;
        "slave $me") votes=$((votes + 1)) ;;
        esac
    done
    [ "$votes" -gt $((REDIS_NODES / 2)) ]
}

# Whether some other node runs as a replica. Then this master went alone, and the Sentinels are about to replace it. To come back
# as the master first would be quicker and dangerous: its replication starts at offset 0, so the Sentinels would prefer a replica
# that has not found it again over one that has its latest writes.
replica_runs() {
    for node in $(numbers "$REDIS_NODES"); do
        case $(role_of "$(redis_node "$node")") in
        slave*) return 0 ;;
        esac
    done
    return 1
}

decide() { # sets master, once it is certain, and min_replicas, what it needs to take writes at first
    since=$(date +%s)
    while :; do
        master=$(most_sentinels_say) || master=unknown
        waited=$(($(date +%s) - since))
        min_replicas=0
        if [ "$master" = unknown ]; then
            say "waiting: fewer than most of $SENTINELS Sentinels answer (or refuse the password)"
        elif [ "$master" = new ]; then
            master=$(remembered)
            if [ "$master" != "$me" ] || elected; then break; fi
            say "waiting: no Sentinel knows a master, and not most Redis nodes remember this one"
        elif [ "$master" = "$me" ]; then
            # No writes without a replica: it was away, and may be replaced at any moment.
            min_replicas=$MIN_REPLICAS_TO_WRITE
            if [ ! -e "$conf" ]; then
                # An empty master would empty its replicas.
                say "waiting: the Sentinels name this node, but its volume is new; they will promote one that has the data"
            elif [ "$waited" -lt "$MASTER_WAIT_SECONDS" ] && replica_runs; then
                say "waiting: the Sentinels name this node, but replicas are up; they will promote one of them"
            else
                break
            fi
        elif [ -n "$(role_of "$master")" ] || [ "$waited" -ge "$MASTER_WAIT_SECONDS" ]; then
            break
        else
            say "waiting: the Sentinels name $master, which is not up yet"
        fi
        sleep 1
    done
}

# min-replicas-to-write, in force only while it helps. A master that has replicas takes it, and so stops taking writes that would
# be lost when a partition cuts it off. A replica drops it: promoted, it has no replica for a second or two and would answer
# -NOREPLICAS to everybody in the middle of a failover.
guard() {
    now=$min_replicas
    while sleep 5; do
        wanted=$(echo ROLE | ask_redis 127.0.0.1 | awk -v wanted="$MIN_REPLICAS_TO_WRITE" -v now="$now" '
            NR == 1 { role = $1 }
            END { replicas = (NR - 2) / 3
                  if (role == "slave") print 0; else if (role == "master" && replicas >= wanted) print wanted; else print now }')
        [ "$wanted" != "$now" ] || continue
        [ "$(echo "CONFIG SET min-replicas-to-write $wanted" | ask_redis 127.0.0.1)" != OK ] || now=$wanted
    done
}

umask 077
: >/tmp/starting # until there is a Redis to ask, the liveness probe asks for this file
decide
if [ "$master" = "$me" ]; then say "starting as the master"; else say "starting as a replica of $master"; fi

{
    cat /config/redis.conf
    echo "dir /data"
    echo "requirepass $REDIS_PASSWORD"
    echo "masterauth $REDIS_PASSWORD"
    # The name outlives the pod, its address does not.
    echo "replica-announce-ip $me"
    echo "min-replicas-to-write $min_replicas"
    echo "min-replicas-max-lag $MIN_REPLICAS_MAX_LAG"
    # JSON, search, time series and Bloom of the image redis:8, then any that a volume brings.
    for module in /usr/local/lib/redis/modules/*.so /modules/*.so; do
        if [ -s "$module" ]; then echo "loadmodule $module"; fi
    done
    if [ "$master" != "$me" ]; then echo "replicaof $master 6379"; fi
} >"$conf.new"
mv "$conf.new" "$conf"
rm -f /tmp/starting
if [ "$MIN_REPLICAS_TO_WRITE" -gt 0 ]; then guard & fi
exec redis-server "$conf"
