"""Optional changes to a model that make it faster and keep its results."""
