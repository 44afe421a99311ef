"""The report of a comparison: what its runs scored, how they differ, what they cost, and a recommendation."""
