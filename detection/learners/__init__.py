"""SVMs, box regression and calibration on arrays."""
