"""The results of a finished run, written and read back."""
