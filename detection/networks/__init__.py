"""Convolutional trunks, their weights, and the head."""
