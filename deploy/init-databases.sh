#!/bin/sh
# Run once by PostgreSQL's image, when its volume is empty: a database and its owner for Dagster, and the same for us.
# Two databases and not two schemas: each can be backed up, restored and moved without the other.
set -e

create() { # name, file with its password
    if [ ! -s "$2" ]; then
        echo "the password file of $1, $2, is missing or empty" >&2
        exit 1
    fi
    # By environment, for arguments can be seen in the list of processes.
    PASSWORD=$(cat "$2") psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 --set=name="$1" \
        --username="$POSTGRES_USER" --dbname=postgres <<'SQL'
\getenv password PASSWORD
CREATE ROLE :"name" LOGIN PASSWORD :'password';
CREATE DATABASE :"name" OWNER :"name";
REVOKE ALL ON DATABASE :"name" FROM PUBLIC;
SQL
}

create dagster "$DAGSTER_DB_PASSWORD_FILE"
create cowrie_enrich "$COWRIE_ENRICH_DB_PASSWORD_FILE"
