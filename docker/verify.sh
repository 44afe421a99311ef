#!/bin/sh
# Restores a backup beside the tracking server and compares: docker/verify.sh [BACKUP]
exec "$(dirname -- "$0")/data_command.sh" backups.verify "$@"
