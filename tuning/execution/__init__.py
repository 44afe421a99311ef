"""Run a trial: its training process, resources and MLflow run."""
