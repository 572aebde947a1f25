#!/bin/sh
# Alive: answers at all. LOADING is an answer.
set -eu
. /scripts/common.sh
[ -n "$(echo PING | ask 127.0.0.1)" ]
