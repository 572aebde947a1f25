# shellcheck shell=sh
# What the other scripts share. No password is ever an argument of a command.

node() { # node <number>: its name
    echo "redis-cluster-$1.redis-cluster-nodes.$NAMESPACE.svc.$CLUSTER_DOMAIN"
}

# Redis Cluster speaks of addresses, of the same family as this pod's.
addresses_of() { # addresses_of <name>
    case $POD_IP in
    *:*) getent ahostsv6 "$1" ;;
    *) getent ahostsv4 "$1" ;;
    esac | awk '!seen[$1]++ { print $1 }'
}
address_of() { addresses_of "$1" | head -n 1; }

say() { # each message once, until another one follows
    [ "$*" = "${said:-}" ] || echo "$(date -u +%T) $*" >&2
    said=$*
}

numbers() { # numbers <first> <last>
    number=$1
    while [ "$number" -le "$2" ]; do
        echo "$number"
        number=$((number + 1))
    done
}

# Commands on stdin, plain replies on stdout, nothing where nobody answers within 2 s.
ask() { # ask <host>
    REDISCLI_AUTH=$REDIS_PASSWORD timeout 2 redis-cli -h "$1" -p 6379 2>/dev/null | tr -d '\r' || true
}

info_of() { # info_of <host> <field of CLUSTER INFO>
    echo CLUSTER INFO | ask "$1" | sed -n "s/^$2://p"
}

# The line of CLUSTER NODES about the node itself: <id> <address> <flags> <its master> … <slots>
myself() { # myself <host>
    echo CLUSTER NODES | ask "$1" | grep -w myself
}

# redis-cli --cluster …, which reads the password from this variable.
manage() { REDISCLI_AUTH=$REDIS_PASSWORD redis-cli --cluster "$@"; }

# Waits until every node has heard of every other one and serves (a new one does not at once), then finishes what an interrupted move of a slot has left.
settle() { # settle <host of some node>
    all=$(info_of "$1" cluster_known_nodes)
    for address in $(echo CLUSTER NODES | ask "$1" | cut -d' ' -f2 | sed 's/:[0-9]*@.*//'); do
        until [ "$(info_of "$address" cluster_known_nodes)" = "$all" ] && [ "$(info_of "$address" cluster_state)" = ok ]; do
            say "waiting for $address to know all $all nodes and to serve"
            sleep 0.5
        done
    done
    manage check "$1:6379" >/dev/null 2>&1 || manage fix "$1:6379"
}
