"""From an image to detections, and the combination of models."""
