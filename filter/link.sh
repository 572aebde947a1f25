#!/bin/sh
# The linker, less some exports. The SDK exports a function for everything that a proxy may tell a module; Envoy makes no
# call, into the VM and back, for what a module does not export, and the linker leaves out what only such a function needs.
# Left out is what nothing here listens to: HTTP, gRPC, access logs, and the upstream's close, which the client's follows.
set -eu
unheard='proxy_on_(log|upstream_connection_close|(request|response)_(headers|body|trailers)|http_call_response|grpc_.*)'
is_first=yes is_export=
for argument do
    [ -z "$is_first" ] || set --
    is_first=
    if [ "$argument" = --export ]; then
        is_export=yes
    elif [ -z "$is_export" ]; then
        set -- "$@" "$argument"
    else
        is_export=
        echo "$argument" | grep -qxE "$unheard" || set -- "$@" --export "$argument"
    fi
done
exec "$RUST_LLD" "$@"
