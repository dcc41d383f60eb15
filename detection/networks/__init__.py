"""Convolutional trunks, their weights, the spatial pyramid and the head."""
