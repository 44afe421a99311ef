#!/bin/sh
# Creates and changes the accounts of the tracking server: docker/users.sh FILE [--dry-run] [--remove]
# Runs in a container when the service of compose runs on this machine: then Docker is all that is needed.
set -eu
folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${folder%/*}
if command -v docker >/dev/null && [ -n "$(docker compose -f "$folder/compose.yaml" ps --quiet tracking 2>/dev/null)" ]; then
    # Mode, links, user, group, …: the owner alone reads and writes there, in a container too.
    # shellcheck disable=SC2012 # `stat` has other options on other systems
    owner=$(ls -nd "$folder/secrets" | awk '{print $3 ":" $4}')
    case ${1:--} in
        -*) exec docker compose -f "$folder/compose.yaml" run --rm -T --user "$owner" users "$@" ;;
        /*) file=$1 ;;
        *) file=$PWD/$1 ;;
    esac
    [ -f "$file" ] || { echo "error: There is no file $1 with lines \`name: role\`, as in docker/users.example.yaml." >&2; exit 1; }
    shift
    exec docker compose -f "$folder/compose.yaml" run --rm -T --user "$owner" --volume "$file:$file:ro" users "$file" "$@"
fi
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m trainer.service.accounts "$@"
