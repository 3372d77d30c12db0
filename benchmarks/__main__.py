"""All benchmarks, one after the other, each in a process of its own; then every figure beside its target once more."""

import subprocess
import sys
import time

from benchmarks.setting import arguments

EACH = (
    "solver",
    "bootstrap",
    "extraction",
    "plain_loop",
    "reference_probe",
    "reading",
    "growth",
    "scaling",
    "whole_run",
    "results_folder",
)


def main(options: list[str]) -> int:
    """Run them with the same options; 1 if a target was missed or a benchmark broke, 2 without data."""
    data_dir = arguments(__doc__ or "", options).data_dir
    if not (data_dir / "eurosat").is_dir():
        print(
            f"error: {data_dir} has no eurosat; name the directory of the datasets in SSL4EO_BENCH_DATA.",
            file=sys.stderr,
        )
        return 2
    verdicts: list[str] = []
    broken: list[str] = []
    for name in EACH:
        begin, before = time.perf_counter(), len(verdicts)
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-u", "-m", f"benchmarks.{name}", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                if line.startswith(("met ", "MISSED")):
                    verdicts.append(line.rstrip())
        missed = any(line.startswith("MISSED") for line in verdicts[before:])
        if process.returncode != int(missed):  # Python leaves with 1 after an exception, too
            broken.append(f"BROKE   {name}: exit status {process.returncode}")
        print(f"({name}: {time.perf_counter() - begin:.0f} s)", flush=True)
    print("\n== all", *verdicts, *broken, sep="\n")
    return 1 if broken or any(line.startswith("MISSED") for line in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
