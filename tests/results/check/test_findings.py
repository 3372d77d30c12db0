"""How findings are told."""

from xml.etree import ElementTree as ET

from ssl4eo_bench.results.check.findings import Finding, Report, as_junit, as_markdown

FINDINGS = (
    Finding("runs/a.json", "is <b> | `odd`\nin\x00every way", "mend it"),
    Finding("runs/a.json", "is wrong again", "mend it again"),
    Finding("runs/gone.json", "was removed", "restore it"),
)
REPORT = Report(
    results=("runs/a.json", "runs/b.json"),
    generated=("leaderboard.csv",),
    against="main",
    findings=FINDINGS,
    notes=("a note",),
)
CLEAN = Report(results=("runs/a.json",), generated=(), against=None, findings=())


def test_the_summary_counts() -> None:
    assert REPORT.summary == "2 result files, 1 generated file, compared with main: 3 findings"
    assert CLEAN.summary == "1 result file, 0 generated files, compared with nothing: all is well"


def test_markdown_has_a_row_for_each_finding() -> None:
    lines = as_markdown(REPORT).splitlines()
    assert lines[:5] == ["## Results", "", f"{REPORT.summary}.", "", "| file | what is wrong | cure |"]
    assert lines[6] == "| `runs/a.json` | is &lt;b> \\| 'odd' in?every way | mend it |"
    assert lines[8] == "| `runs/gone.json` | was removed | restore it |"
    assert lines[9:] == ["", "Note: a note."]
    assert as_markdown(CLEAN) == f"## Results\n\n{CLEAN.summary}.\n"


def test_junit_has_a_case_for_each_file() -> None:
    suite = ET.fromstring(as_junit(REPORT))
    assert (suite.tag, suite.get("tests"), suite.get("failures")) == ("testsuite", "4", "2")
    cases = {case.get("name"): case for case in suite}
    assert {name: case.get("classname") for name, case in cases.items()} == {
        "runs/a.json": "results",
        "runs/b.json": "results",
        "leaderboard.csv": "generated",
        "runs/gone.json": "other",
    }
    failure = cases["runs/a.json"].find("failure")
    assert failure is not None
    assert failure.get("message") == "is <b> | `odd`\nin?every way; is wrong again"
    assert failure.text == (
        "runs/a.json is <b> | `odd`\nin?every way; mend it.\nruns/a.json is wrong again; mend it again."
    )
    assert cases["runs/b.json"].find("failure") is None
