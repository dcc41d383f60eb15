"""Linear SVMs on a fixed network's features (paper, sections 3.2 and 3.3)."""
