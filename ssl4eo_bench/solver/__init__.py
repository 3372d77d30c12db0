"""Logistic regression over a path of penalties."""
