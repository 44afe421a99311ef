"""What every package may use: errors, settings, the names of artifacts, metrics and tags, run folders, environment."""
