"""SVMs and box regression: arrays in, arrays out."""
