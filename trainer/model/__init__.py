"""The classifier: encoder, pooling, head, losses and its files."""
