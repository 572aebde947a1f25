#!/bin/sh
# Alive: answers at all.
set -eu
. /scripts/common.sh
[ -n "$(echo PING | ask_sentinel 127.0.0.1)" ]
