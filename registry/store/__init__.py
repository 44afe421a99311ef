"""Model versions, aliases and the decision log on the tracking server."""
