"""Annotated images from disk, and a small synthetic data set in VOC's layout."""
