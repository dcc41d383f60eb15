"""Annotated images from disk, and a drawn miniature of VOC."""
