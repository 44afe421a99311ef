#!/bin/sh
# Removes what nothing needs from the tracking server: docker/gc.sh [--apply]
exec "$(dirname -- "$0")/data_command.sh" backups.clean_up "$@"
