"""Accounts of the tracking server, their roles, and what each may do."""
