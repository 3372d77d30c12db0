"""The command that says what this machine has for runs."""

from ssl4eo_bench.cli.display import print_json
from ssl4eo_bench.cli.options import CacheDir, DataDir, Json
from ssl4eo_bench.files.places import cache_root, data_root

MARKS = {"ok": "ok     ", "warning": "warning", "broken": "broken "}


def doctor(*, data_dir: DataDir = None, cache_dir: CacheDir = None, json: Json = False) -> int:
    """Examine this machine: what is there for runs, what is broken, what is slow.

    It looks at packages, devices, threads, cache, disk, tasks, data and network, changes nothing, and waits for the
    network five seconds at most. Exits with 1 if anything is broken.

    Examples:
      ssl4eo-bench doctor
      ssl4eo-bench doctor --json --data-dir /data/eo
    """
    from ssl4eo_bench.doctor import Finding, examine, verdict  # imports much

    findings: list[Finding] = []
    for one in examine(lambda: cache_root(cache_dir), data_root(data_dir)):
        findings.append(one)
        if not json:
            print(f"{MARKS[one.state]}  {one.what:9} {one.found}")
            if one.cure:
                print(f"{'':19}cure: {one.cure}")
    broken = any(one.state == "broken" for one in findings)
    if json:
        print_json({"broken": broken, "verdict": verdict(findings), "findings": [vars(one) for one in findings]})
    else:
        print(verdict(findings))
    return 1 if broken else 0
