#!/bin/sh
# Creates and changes the accounts of the tracking server: docker/users.sh FILE [--dry-run] [--remove]
set -eu
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m trainer.service.accounts "$@"
