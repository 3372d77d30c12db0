"""Metrics: whole arrays in, floats out. No torch."""
