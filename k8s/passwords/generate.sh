#!/bin/sh
# Writes passwords.env with random passwords, once.
set -eu
cd "$(dirname "$0")"
[ ! -e passwords.env ] || exit 0
umask 077
random() { od -An -N16 -tx1 /dev/urandom | tr -d ' \n'; }
{
    echo "redis-password=$(random)"
    echo "sentinel-password=$(random)"
    echo "webdis-login=app:$(random)"
    echo "redisinsight-key=$(random)"
} >passwords.env
echo "k8s/passwords/passwords.env: new, random passwords"
