"""A small synthetic data set in VOC's layout, made of textured shapes."""
