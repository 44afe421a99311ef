"""Scores of a classifier in numpy: metrics, calibration, thresholds, cross-validation and bootstrap intervals."""
