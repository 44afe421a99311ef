"""Score files of any size with a registered model."""
