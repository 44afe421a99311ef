#!/bin/sh
# Runs trainer.service.MODULE on the service of compose when that runs on this machine, else on that of `make service`.
set -eu
folder=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
root=${folder%/*}
if command -v docker >/dev/null && [ -n "$(docker compose -f "$folder/compose.yaml" ps --quiet postgres 2>/dev/null)" ]; then
    exec docker compose -f "$folder/compose.yaml" run --rm -T backup "$@"
fi
python=$root/.venv/bin/python
[ -x "$python" ] || python=python3
module=$1
shift
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -m "trainer.service.$module" "$@"
