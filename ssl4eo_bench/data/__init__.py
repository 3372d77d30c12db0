"""Reading datasets: trees of files, image formats, split lists, batches, and the sample maker. No torch."""
