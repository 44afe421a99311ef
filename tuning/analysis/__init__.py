"""Analysis of a search: importance and good ranges of parameters, and sentences about trials and finals."""
