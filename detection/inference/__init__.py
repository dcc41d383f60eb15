"""From a picture to detections, and the combination of models."""
