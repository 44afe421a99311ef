"""Ranks the finished training runs of an experiment by their score on dev."""
