#!/bin/sh
# Restores a backup into the tracking server: docker/restore.sh [BACKUP] [--replace]
exec "$(dirname -- "$0")/data_command.sh" backups.restore "$@"
