"""What is to be run, as frozen, strictly validated values with digests. No torch, no reading of images."""
