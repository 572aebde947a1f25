#!/bin/sh
# Alive: waits for its turn to start, or answers at all. LOADING and MASTERDOWN are answers.
set -eu
. /scripts/common.sh
[ -e /tmp/starting ] || [ -n "$(echo PING | ask_redis 127.0.0.1)" ]
