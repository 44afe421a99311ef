"""Data sets: sources, splits, overlap between splits, tokenization and batching."""
