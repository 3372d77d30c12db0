"""What is measured against peers; each module runs with `python -m benchmarks.NAME`."""
