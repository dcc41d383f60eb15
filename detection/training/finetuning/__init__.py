"""Fine-tuning on windows: batches, the loop, its checkpoints."""
