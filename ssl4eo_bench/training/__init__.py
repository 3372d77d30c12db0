"""Training a network by gradient steps."""
