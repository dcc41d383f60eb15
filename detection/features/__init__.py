"""Features of windows: scales, maps, and the mapping from windows to cells; R-CNN's features."""
