"""The figures, tables and report of a search."""
