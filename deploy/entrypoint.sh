#!/bin/sh
# dagster-postgres takes its password from the environment only: read it from the mounted secret, then become the
# command. Our own settings read their secret files themselves. Health checks that open Dagster's storage go through
# here as well, for they do not inherit what the container's first process has exported.
set -eu

if [ -n "${DAGSTER_PG_PASSWORD_FILE:-}" ]; then
    DAGSTER_PG_PASSWORD=$(cat -- "$DAGSTER_PG_PASSWORD_FILE")
    export DAGSTER_PG_PASSWORD="${DAGSTER_PG_PASSWORD:?is empty in DAGSTER_PG_PASSWORD_FILE}"
fi

exec "$@"
