"""Heads of the classifier: from the vector of a text to logits."""
