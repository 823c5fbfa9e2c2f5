"""Tuning: every candidate is checked against the untouched model, then timed; the fastest that is right wins."""
