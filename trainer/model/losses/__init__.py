"""Losses for independent labels under imbalance: the functions, the table of them, and the loss of a configuration."""
