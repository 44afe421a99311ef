#!/usr/bin/env bash
# Makes the secrets and the certificate that are missing in FOLDER, and refuses weak ones: init.sh [FOLDER]
set -euo pipefail
root="$(cd "$(dirname "$0")/.." && pwd)"
python="$root/.venv/bin/python"
[ -x "$python" ] || python=python3
PYTHONPATH="$root" exec "$python" -m trainer.service.secrets "${1:-$root/docker/secrets}"
