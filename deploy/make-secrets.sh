#!/bin/sh
# Make up the passwords that compose.yaml mounts from ./secrets. What is there already is kept.
set -eu
cd -- "$(dirname -- "$0")"

# Compose mounts a secret with the owner and mode it has on the host, and the containers' users are not the host's.
# So the files can be read by all, and the folder, which is not mounted, can be entered by nobody else.
umask 077
mkdir -p secrets
chmod 700 secrets

keep_or_write() {
    if [ ! -s "secrets/$1" ]; then
        printf '%s\n' "$2" >"secrets/$1"
    fi
    chmod 444 "secrets/$1"
}

random() {
    od -An -v -N24 -tx1 /dev/urandom | tr -d ' \n'
}

for name in postgres_password dagster_db_password cowrie_enrich_db_password redis_password \
    grafana_admin_password; do
    keep_or_write "$name" "$(random)"
done
password=$(cat secrets/cowrie_enrich_db_password)
keep_or_write database_url "postgresql://cowrie_enrich:$password@postgres:5432/cowrie_enrich"
