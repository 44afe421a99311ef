"""Retrain the best settings with fresh seeds and choose the winner."""
