"""The gate over a results directory: what is wrong in it, file by file, without torch."""
