#!/bin/sh
# Starts Webdis with webdis.json and the passwords in it. (Webdis reads environment variables itself since 0.1.12, but not where a
# value is missing: it would start without a password, or with the variable's name as one.)
#
# About its ACL: what is allowed are also commands whose name is the beginning of an allowed one ("SET" by "SETEX"), and
# MULTI, EXEC, WATCH and SELECT never are, because requests share connections.
set -eu
umask 077
: "${REDIS_PASSWORD:?}" "${WEBDIS_LOGIN:?}"
case $REDIS_PASSWORD$WEBDIS_LOGIN in
*[!A-Za-z0-9._~+/=:-]*)
    echo "Secret redis-passwords: only letters, digits and . _ ~ + / = : - are possible in redis-password and webdis-login" >&2
    exit 1
    ;;
esac
awk '{ gsub(/@REDIS_PASSWORD@/, ENVIRON["REDIS_PASSWORD"]); gsub(/@WEBDIS_LOGIN@/, ENVIRON["WEBDIS_LOGIN"]); print }' \
    /config/webdis.json >/tmp/webdis.json
exec webdis /tmp/webdis.json
