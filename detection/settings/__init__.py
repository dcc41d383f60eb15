"""The groups of a run's settings."""
