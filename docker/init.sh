#!/bin/sh
# Makes the secrets and the certificate that are missing in FOLDER, and refuses weak ones: init.sh [FOLDER]
# shellcheck disable=SC1091,SC2154 # what it sets is checked there
. "$(dirname -- "$0")/common.sh"
run_module secrets "${1:-$folder/secrets}"
