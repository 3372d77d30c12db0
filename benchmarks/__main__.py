"""All benchmarks, one after the other, each in a process of its own; then every figure beside its target once more."""

import subprocess
import sys
import time

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
)


def main(options: list[str]) -> int:
    """Run them with the same options; 1 if a target was missed or a benchmark broke."""
    verdicts, broken = [], []
    for name in EACH:
        begin = time.perf_counter()
        print(f"\n== {name}", flush=True)
        command = [sys.executable, "-u", "-m", f"benchmarks.{name}", *options]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            for line in process.stdout:
                print(line, end="", flush=True)
                if line.startswith(("met ", "MISSED")):
                    verdicts.append(line.rstrip())
        if process.returncode not in (0, 1):
            broken.append(f"BROKE   {name}: exit status {process.returncode}")
        print(f"({name}: {time.perf_counter() - begin:.0f} s)", flush=True)
    print("\n== all", *verdicts, *broken, sep="\n")
    return 1 if broken or any(line.startswith("MISSED") for line in verdicts) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
