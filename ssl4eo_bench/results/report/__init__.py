"""The report: one HTML page that needs nothing else, and its figures as files."""
