"""Labels, sampling, fine-tuning, hard negatives, and the stages of a run."""
