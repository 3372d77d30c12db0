"""Backbones: weight files, networks, the input tensor, and what runs them."""
