"""One module for each kind of labels: targets, loss, metrics and how a split is scored."""
