"""Search settings of `train` with Optuna: the entry point, its settings and the pipeline."""
