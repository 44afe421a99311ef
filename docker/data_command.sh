#!/bin/sh
# Runs a module of trainer.service on the service of this machine: data_command.sh MODULE [--compose|--native] [ARGUMENT…]
# shellcheck disable=SC1091,SC2154 # what it sets is checked there
. "$(dirname -- "$0")/common.sh"
find_service
if [ "$service" = compose ]; then
    compose run --rm -T backup "$@"
else
    run_module "$@"
fi
