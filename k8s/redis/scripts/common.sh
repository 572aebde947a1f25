# shellcheck shell=sh
# What the other scripts share: names, and how to ask a Redis or a Sentinel. No password is ever an argument of a command.

redis_node() { # redis_node <number>: the name that Redis number <number> announces
    echo "redis-$1.redis-nodes.$NAMESPACE.svc.$CLUSTER_DOMAIN"
}

sentinel_node() {
    echo "sentinel-$1.sentinel-nodes.$NAMESPACE.svc.$CLUSTER_DOMAIN"
}

say() { # each message once, until another one follows
    [ "$*" = "${said:-}" ] || echo "$(date -u +%T) $*" >&2
    said=$*
}

numbers() { # numbers <count>: 0 to count - 1
    number=0
    while [ "$number" -lt "$1" ]; do
        echo "$number"
        number=$((number + 1))
    done
}

# Commands on stdin, plain replies on stdout, nothing where nobody answers within 2 s.
ask_redis() { # ask_redis <host>
    # shellcheck disable=SC2086 # options
    REDISCLI_AUTH=$REDIS_PASSWORD timeout 2 redis-cli -h "$1" -p 6379 ${REDISCLI_OPTIONS:-} 2>/dev/null || true
}
ask_sentinel() { # ask_sentinel <host>
    # shellcheck disable=SC2086 # options
    REDISCLI_AUTH=$SENTINEL_PASSWORD timeout 2 redis-cli -h "$1" -p 26379 ${REDISCLI_OPTIONS:-} 2>/dev/null || true
}

# What one Sentinel says: "<config-epoch> <master>", or "new" if it knows no master, or nothing if it does not answer.
# The address comes from a command of its own because in a failover only that one is up to date; and after the epoch, so that a
# failover in between makes a new address look old, and never an old one new.
sentinel_says() { # sentinel_says <number>
    printf 'SENTINEL MASTER %s\nSENTINEL GET-MASTER-ADDR-BY-NAME %s\n' "$MASTER_NAME" "$MASTER_NAME" |
        ask_sentinel "$(sentinel_node "$1")" |
        awk 'before == "config-epoch" { epoch = $1 }
             /No such master/ { unknown = 1 }
             { master = before; before = $1 }
             END { if (epoch != "" && master != "") print epoch, master; else if (unknown) print "new" }'
}

all_sentinels_say() {
    for sentinel in $(numbers "$SENTINELS"); do sentinel_says "$sentinel"; done
}

# The master of the highest config-epoch, or "new" if no Sentinel knows one. Fails while fewer than most Sentinels answer: the few
# may be those that missed the last failover.
most_sentinels_say() {
    answers=$(all_sentinels_say)
    [ "$(echo "$answers" | grep -c .)" -gt $((SENTINELS / 2)) ] || return 1
    newest=$(echo "$answers" | grep -v '^new$' | sort -rn | head -n 1)
    echo "${newest:-new new}" | cut -d' ' -f2
}

# Sentinel writes passwords into its file without quotes.
check_passwords() {
    case $REDIS_PASSWORD$SENTINEL_PASSWORD in
    *[!A-Za-z0-9._~+/=-]*)
        echo "Secret redis-passwords: only letters, digits and . _ ~ + / = - are possible in a password" >&2
        exit 1
        ;;
    esac
}
