"""The report, figures and table of a search, and the summary in the terminal."""
