"""Backbones: weight files, networks, scaled input images, and the runners of frozen networks."""
