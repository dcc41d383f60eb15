"""Pages of results: one HTML file each, which loads nothing from elsewhere."""
