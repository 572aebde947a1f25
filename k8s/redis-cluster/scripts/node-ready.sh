#!/bin/sh
# Ready: has its data, belongs to a cluster, and as a replica has its link to the master. The next pod of a rolling restart waits
# for this.
set -eu
. /scripts/common.sh
[ "$(info_of 127.0.0.1 cluster_state)" = ok ]
printf 'PING\nROLE\n' | ask 127.0.0.1 | awk '
    NR == 1 { loaded = $1 == "PONG" }
    NR == 2 { role = $1 }
    NR == 5 { link = $1 }
    END { exit !(loaded && (role == "master" || link == "connected")) }'
