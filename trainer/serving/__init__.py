"""The trained model as an MLflow model, and its model card."""
