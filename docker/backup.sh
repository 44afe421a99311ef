#!/bin/sh
# Backs up the tracking server: docker/backup.sh [--verify]
exec "$(dirname -- "$0")/data_command.sh" backups.backup "$@"
