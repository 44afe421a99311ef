"""Packages trained classifiers as MLflow models, checks such models, and writes their model cards."""
