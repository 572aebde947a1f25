#!/bin/sh
# Starts a node of the cluster. It announces the address that its pod has now; those of the others, in nodes.conf, are left as they
# are: DNS may not know the new ones yet, or may still give an old one that is another node's by now. See watch-addresses.sh.
#
# Addresses, not names, are what nodes tell clients: Envoy and most clients expect them in CLUSTER SLOTS. The names go along
# (cluster-announce-hostname), for people who read CLUSTER NODES.
set -eu
. /scripts/common.sh

case $REDIS_PASSWORD in
*[!A-Za-z0-9._~+/=-]*)
    echo "Secret redis-passwords: only letters, digits and . _ ~ + / = - are possible in redis-password" >&2
    exit 1
    ;;
esac

umask 077
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
