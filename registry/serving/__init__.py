"""The champion as a server: loading it, replacing it when the alias moves, and HTTP."""
