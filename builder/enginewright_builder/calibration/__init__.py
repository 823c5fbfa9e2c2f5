"""Calibration: what is learned from real samples. So far they are read, and serve as inputs for checks and goldens."""
