"""The findings of a check, as records, Markdown and JUnit XML."""

import re
from dataclasses import dataclass
from xml.etree import ElementTree as ET

UNPRINTABLE = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML cannot hold; names and contents of damaged files may have them."""


@dataclass(frozen=True, order=True)
class Finding:
    """One fault: `what` is wrong, as the rest of a sentence that begins with the file, by its place in the results."""

    file: str
    what: str
    cure: str


@dataclass(frozen=True)
class Report:
    """The outcome of a check.

    Attributes:
        results: the places of the result files that were checked.
        generated: the places of the files that these results give, and of files that look like them.
        against: the name of the baseline; none where nothing was compared.
        notes: what could not be checked, and why.
    """

    results: tuple[str, ...]
    generated: tuple[str, ...]
    against: str | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """The outcome in one line."""
        counts = f"{_count(len(self.results), 'result file')}, {_count(len(self.generated), 'generated file')}"
        compared = "compared with nothing" if self.against is None else f"compared with {self.against}"
        return f"{counts}, {compared}: {_count(len(self.findings), 'finding') if self.findings else 'all is well'}"


def as_markdown(report: Report) -> str:
    """The report as a page for a pull request."""
    lines = ["## Results", "", f"{_cell(report.summary)}."]
    if report.findings:
        lines += ["", "| file | what is wrong | cure |", "|---|---|---|"]
        lines += [f"| `{_cell(one.file)}` | {_cell(one.what)} | {_cell(one.cure)} |" for one in report.findings]
    for note in report.notes:
        lines += ["", f"Note: {_cell(note)}."]
    return "\n".join(lines) + "\n"


def as_junit(report: Report) -> str:
    """The report as JUnit XML: one test case for each file."""
    places = {**dict.fromkeys(report.results, "results"), **dict.fromkeys(report.generated, "generated")}
    places |= {one.file: "other" for one in report.findings if one.file not in places}
    failed: dict[str, list[Finding]] = {}
    for one in report.findings:
        failed.setdefault(one.file, []).append(one)
    counts = {"tests": str(len(places)), "failures": str(len(failed))}
    suite = ET.Element("testsuite", {"name": "ssl4eo-bench check", **counts})
    for place, kind in places.items():
        case = ET.SubElement(suite, "testcase", {"classname": kind, "name": _plain(place)})
        if found := failed.get(place):
            failure = ET.SubElement(case, "failure", {"message": _plain("; ".join(one.what for one in found))})
            failure.text = "\n".join(_plain(f"{one.file} {one.what}; {one.cure}.") for one in found)
    ET.indent(suite)
    return ET.tostring(suite, encoding="unicode", xml_declaration=True) + "\n"


def _cell(text: str) -> str:
    """Text for a cell of a Markdown table, without characters that end the cell, or start code or a tag."""
    flat = " ".join(_plain(text).split())
    return flat.replace("|", "\\|").replace("`", "'").replace("<", "&lt;")


def _plain(text: str) -> str:
    return UNPRINTABLE.sub("?", text)


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"
