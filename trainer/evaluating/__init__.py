"""One model or file of predictions on one split: the settings and steps of `trainer.evaluate`."""
