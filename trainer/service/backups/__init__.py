"""Backups of the tracking server, restoring and verifying them, and removing what nothing needs."""
