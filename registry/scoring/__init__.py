"""Batch scoring: read a file of any size, score its rows with a saved model, write the results."""
