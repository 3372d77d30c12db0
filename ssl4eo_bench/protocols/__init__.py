"""Protocols: from features and labels to scores."""
