"""A fixed network's features under linear SVMs (paper, sections 3.2 and 3.3)."""
