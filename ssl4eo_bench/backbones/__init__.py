"""From a checkpoint to features: weight files, building, the input tensor, running, and the feature cache."""
