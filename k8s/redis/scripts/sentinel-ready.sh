#!/bin/sh
# Ready: knows the master and enough other Sentinels to promote another one.
set -eu
. /scripts/common.sh
echo "SENTINEL CKQUORUM $MASTER_NAME" | ask_sentinel 127.0.0.1 | grep -q ^OK
