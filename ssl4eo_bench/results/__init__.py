"""Results: their files, and everything that is made of them. No torch.

`files` reads and writes one JSON file for each run, and `schema` updates old ones. `frame` makes a DataFrame with a row
for each run, from which everything else starts: `tables`; the leaderboard (`ranked_rows` makes it, `leaderboard` is the
record, `markdown`, `latex` and `report.pages` show it, `views` writes it); comparisons (`pairs`, `compare`); the
`report`; and `model_index`. `check` guards a results directory in CI.
"""
