"""The check of a results directory in CI. It needs no torch."""
