"""The Optuna study: storage, samplers, pruners and its trials."""
