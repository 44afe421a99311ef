#!/bin/sh
# What the other scripts share; each reads this file first. It takes --compose and --native out of their arguments.
set -eu
folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${folder%/*}
up="docker compose -f docker/compose.yaml up -d"

service=
for word; do
    shift
    case $word in
        --compose | --native) service=${word#--} ;;
        *) set -- "$@" "$word" ;;
    esac
done

fail() {
    echo "Error: $1" >&2
    exit 1
}

compose() {
    docker compose -f "$folder/compose.yaml" "$@"
}

# Runs a module of trainer.service in the project's environment: run_module MODULE [ARGUMENT…]
run_module() {
    python=$root/.venv/bin/python
    [ -x "$python" ] || python=python3
    "$python" -c 'import boto3, cryptography, dotenv, flask_wtf, psycopg, zxcvbn' 2>/dev/null ||
        fail "This needs the project's environment, which is not there: run \`make service-setup\`. With Docker alone, start its service instead: $up"
    module=$1
    shift
    PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m "trainer.service.$module" "$@"
}

# Sets `service` to compose or native, unless the user chose. It never guesses where both may have data.
find_service() {
    native=${SERVICE_FOLDER:-$(sed -n 's/^SERVICE_FOLDER=//p' "$folder/.env")}
    case $native in /*) ;; *) native=$root/$native ;; esac
    if [ -z "$service" ]; then
        service=native
        # A folder that another user closed counts as one with secrets.
        if [ -e "$folder/secrets/admin_password" ] || { [ -d "$folder/secrets" ] && [ ! -x "$folder/secrets" ]; }; then
            service=compose
            [ ! -e "$native/secrets/admin_password" ] ||
                fail "Docker (docker/secrets) and \`make service\` ($native) both have a service here: add --compose or --native."
        fi
    fi
    [ "$service" = native ] || check_compose
}

check_compose() {
    else="Add --native for the service of \`make service\`."
    command -v docker >/dev/null || fail "docker/secrets is of a service with Docker, but there is no command \`docker\`. $else"
    running=$(compose ps --quiet postgres 2>&1) ||
        fail "Docker does not answer ($(echo "$running" | tail -n 1 | cut -c 1-120)) Start its engine. $else"
    [ -n "$running" ] || fail "The service with Docker is not started: run \`$up\`. $else"
}
