"""Promote, roll back and score with registered models: entry points and their settings."""
