"""Metrics: whole arrays in, or tiles one after the other; floats out. No torch."""
