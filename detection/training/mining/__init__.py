"""SVMs with hard negatives: the search over the images, and what it holds."""
