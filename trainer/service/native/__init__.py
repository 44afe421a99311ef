"""The service on one machine without Docker: its parts, and the supervisor that starts and restarts them."""
