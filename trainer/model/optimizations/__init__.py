"""Changes to a model that make it faster: dropout, pruned vocabulary, quantization."""
