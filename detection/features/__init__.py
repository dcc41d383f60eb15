"""Scales, window mapping and the spatial pyramid."""
