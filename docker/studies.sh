#!/usr/bin/env bash
# Makes a user and a database for Optuna's studies in PostgreSQL of `make service`, once; needs psql.
# With Docker, PostgreSQL's image runs it when it makes its data.
# shellcheck disable=SC1091,SC2034,SC2154 # of common.sh, which is checked by itself
set -euo pipefail
if [ -d /parts/postgres ]; then
    PASSWORD_FILE=/parts/postgres/studies_password
    where=(--username "$POSTGRES_USER" --dbname "$POSTGRES_DB")
else
    . "$(dirname -- "$0")/common.sh"
    service=native
    find_service
    PASSWORD_FILE=$native/secrets/studies_password
    export PGPASSFILE=$native/secrets/pgpass
    port=${SERVICE_POSTGRES_PORT:-$(sed -n 's/^SERVICE_POSTGRES_PORT=//p' "$folder/.env")}
    where=(--host 127.0.0.1 --port "$port" --username mlflow --dbname mlflow)
    [ -r "$PASSWORD_FILE" ] || fail "There is no secret $PASSWORD_FILE: start the service once with \`make service\`."
fi
export PASSWORD_FILE
psql --quiet --no-psqlrc --set ON_ERROR_STOP=1 "${where[@]}" <<'SQL'
\set password `cat "$PASSWORD_FILE"`
create role optuna login password :'password';
create database optuna owner optuna;
SQL
