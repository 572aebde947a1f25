#!/bin/sh
# Starts a node of the cluster. A node knows the others by address (nodes.conf), and after a restart every address may be another
# one: its own is announced anew, and those of the others are corrected by their names, so that even a cluster whose pods all
# restarted at once finds itself again.
#
# Addresses, not names, are what nodes tell clients: Envoy and most clients expect them in CLUSTER SLOTS. The names go along
# (cluster-announce-hostname); that is how they get into nodes.conf.
set -eu
. /scripts/common.sh

case $REDIS_PASSWORD in
*[!A-Za-z0-9._~+/=-]*)
    echo "Secret redis-passwords: only letters, digits and . _ ~ + / = - are possible in redis-password" >&2
    exit 1
    ;;
esac

correct() { # nodes.conf on stdin: <id> <address>:<port>@<bus port>,<name>[,…] …
    while read -r id place rest; do
        name=$(echo "$place" | cut -d, -f2)
        case $place in
        *:*@*,?*)
            address=$(address_of "$name")
            port=$(echo "$place" | sed 's/@.*//; s/.*://')
            [ -z "$address" ] || place="$address:$port@${place#*@}"
            ;;
        esac
        echo "$id $place $rest"
    done
}

umask 077
if [ -s /data/nodes.conf ]; then
    correct </data/nodes.conf >/data/nodes.conf.new
    mv /data/nodes.conf.new /data/nodes.conf
fi
{
    cat /config/redis.conf
    echo "dir /data"
    echo "requirepass $REDIS_PASSWORD"
    echo "masterauth $REDIS_PASSWORD"
    echo "cluster-node-timeout $NODE_TIMEOUT"
    echo "cluster-announce-ip $POD_IP"
    echo "cluster-announce-hostname $POD_NAME.redis-cluster-nodes.$NAMESPACE.svc.$CLUSTER_DOMAIN"
    # JSON, search, time series and Bloom of the image redis:8, then any that a volume brings.
    for module in /usr/local/lib/redis/modules/*.so /modules/*.so; do
        if [ -s "$module" ]; then echo "loadmodule $module"; fi
    done
} >/data/redis.conf.new
mv /data/redis.conf.new /data/redis.conf
exec redis-server /data/redis.conf
