"""A miniature of VOC made of textured shapes."""
