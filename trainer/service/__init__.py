"""The tracking server of a team: its settings, parts, accounts, backups and health."""
