"""Where the jobs of a plan run. An executor takes jobs and returns their outcomes."""
