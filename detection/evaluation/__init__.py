"""The VOC metric, result files, tables and plots."""
