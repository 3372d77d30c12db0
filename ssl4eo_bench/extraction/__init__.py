"""Features of a split: computed once, and stored in shards."""
