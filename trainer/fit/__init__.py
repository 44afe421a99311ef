"""The training loop: components, batches, optimizer, checkpoints and processes."""
