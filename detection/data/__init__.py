"""Annotated pictures from disk, and a drawn miniature of VOC."""
