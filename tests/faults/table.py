"""Writes the table of faults into docs/reliability.md from the file that `SSL4EO_BENCH_FAULTS_LOG` named.

python -m tests.faults.table faults.jsonl
"""

import sys
from pathlib import Path

import pandas as pd

from ssl4eo_bench.provenance import device_name

PAGE = Path(__file__).parents[2] / "docs" / "reliability.md"
BEGIN, END = "<!-- faults -->\n", "<!-- end of faults -->\n"


def main(log: Path) -> None:
    """Replace the table on the page."""
    rows = pd.read_json(log, lines=True)
    counted = rows.groupby("fault", sort=True).sum(numeric_only=True, min_count=1)
    counted.loc["all"] = counted.sum(skipna=False)
    lines = ["| fault | tried | survived | work lost | silent wrong numbers | tracebacks, hangs |", f"|{'---|' * 6}"]
    for fault, row in counted.iterrows():
        values = (row["tried"], row["survived"], row["lost"], row["silent"], row["tracebacks"])
        lines.append(f"| {fault} | {' | '.join('–' if pd.isna(value) else f'{int(value):,}' for value in values)} |")
    made = f"Written by `tests/faults/table.py` on {pd.Timestamp.now():%Y-%m-%d}, on {device_name('cpu')}."
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text(f"{before}{BEGIN}\n" + "\n".join([*lines, "", made, ""]) + f"\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
