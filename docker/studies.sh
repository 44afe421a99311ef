#!/usr/bin/env bash
# PostgreSQL's image runs it once, when it makes its data: a user and a database for Optuna's studies.
set -euo pipefail
psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\set password `cat /parts/postgres/studies_password`
create role optuna login password :'password';
create database optuna owner optuna;
SQL
