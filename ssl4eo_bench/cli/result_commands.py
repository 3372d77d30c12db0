"""Commands that read results, and write what is made from them.

They import what they need when they are called, so that their help is instant and `show` needs no pandas.
"""

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from ssl4eo_bench.cli import completion, options
from ssl4eo_bench.cli.display import print_json, table
from ssl4eo_bench.cli.options import RESULTS, Group, Value
from ssl4eo_bench.config.task import metric_label
from ssl4eo_bench.errors import SpecError
from ssl4eo_bench.files.atomic import write_text
from ssl4eo_bench.files.places import cache_root

if TYPE_CHECKING:
    from ssl4eo_bench.results.compare import Comparison

FIGURES = (".png", ".svg", ".pdf")
ENDINGS = {".csv": "csv", ".html": "html", ".tex": "latex"}
"""The format of a leaderboard by the ending of its file; all others are Markdown."""

COMPARED = ("task", "setting", "seeds", "samples", "metric", "A", "B", "A − B", "p", "Holm", "McNemar", "verdict")
ONE = "a checkpoint; or a single result, as `show` takes it"

HOW = Group("how")
TO_COMPARE = Group(
    "what to compare", "Of two checkpoints, everything that both were run on is compared, unless it is restricted here."
)
TO_REPORT = Group("what to report", "All official results, unless they are restricted here.")

Base = Annotated[str, Value(metavar="BASE")]


def show(
    run: Annotated[options.Run, "a result file, its place below runs/, or the start of its digest"],
    *,
    json: Annotated[options.Json, "print the file's content"] = False,
    results: options.Results = RESULTS,
) -> int:
    """Show a result: metrics, classes, what was chosen, inputs, origin.

    Examples:
      ssl4eo-bench show eurosat-rgb-v1/linear-v2/bandstats/seed0
      ssl4eo-bench show 5f3a09c2 --json
    """
    from ssl4eo_bench.cli.run_display import show_result
    from ssl4eo_bench.results.files import find_result

    result = find_result(results, run)
    if json:
        print_json(result.content)
    else:
        show_result(result)
    return 0


def compare(
    a: Annotated[str, completion.CHECKPOINTS, ONE],
    b: Annotated[str, completion.CHECKPOINTS, ONE],
    *,
    task: Annotated[options.TaskFilter, TO_COMPARE] = (),
    protocol: Annotated[options.ProtocolFilter, TO_COMPARE] = (),
    fraction: Annotated[options.FractionFilter, TO_COMPARE] = (),
    metric: Annotated[options.Name | None, "(default: the main metric of each task)", TO_COMPARE] = None,
    figure: Annotated[options.File | None, "draw the differences: .png, .svg or .pdf", HOW] = None,
    results: Annotated[options.Results, HOW] = RESULTS,
    cache_dir: Annotated[options.CacheDir, HOW] = None,
    json: Annotated[options.Json, HOW] = False,
) -> int:
    """Is A really better than B? Paired tests on the test samples of both.

    Examples:
      ssl4eo-bench compare resnet50.random bandstats
      ssl4eo-bench compare resnet50.random bandstats --task eurosat --protocol linear --figure differences.svg
    """
    from ssl4eo_bench.results.compare import compare as comparisons_of
    from ssl4eo_bench.results.files import RunFilter
    from ssl4eo_bench.results.pairs import find_pairs

    if figure and figure.suffix not in FIGURES:
        raise SpecError(f"--figure {figure} must end in {', '.join(FIGURES[:-1])} or {FIGURES[-1]}.")
    pairs = find_pairs(results, a, b, RunFilter(tasks=task, protocols=protocol, fractions=fraction), metric)
    comparisons = comparisons_of(pairs, results, cache_root(cache_dir))
    if figure:
        from ssl4eo_bench.results.forest import draw_forest

        draw_forest(comparisons, a, b, figure)
    if json:
        rows = [asdict(one) | {"verdict": one.verdict} for one in comparisons]
        print_json({"a": a, "b": b, "comparisons": rows})
        return 0
    print(f"A  {a}\nB  {b}")
    _show_comparisons(comparisons)
    if figure:
        print(f"figure  {figure}")
    return 0


def _show_comparisons(comparisons: "Sequence[Comparison]") -> None:
    rows = []
    for one in comparisons:
        samples = f"{one.samples:,}{f' in {one.units:,}' if one.units < one.samples else ''}"
        metrics = (metric_label(one.metric), f"{100 * one.a:.2f}", f"{100 * one.b:.2f}")
        difference = f"{100 * one.difference:+.2f} ({100 * one.low:+.2f} to {100 * one.high:+.2f})"
        tests = (_p(one.p), _p(one.p_holm), _p(max(pair.p for pair in one.mcnemar)) if one.mcnemar else "–")
        rows.append((one.task, one.setting, len(one.seeds), samples, *metrics, difference, *tests, one.verdict))
    spare = ("seeds", "McNemar", "p", "samples", "metric", "Holm", "setting")
    title = "test in percent, A − B with 95 % interval"
    table(title, COMPARED, rows, right=COMPARED[2:4] + COMPARED[5:11], spare=spare)
    for verdict in dict.fromkeys(one.verdict for one in comparisons):
        where = [f"{one.task} ({one.setting})" for one in comparisons if one.verdict == verdict]
        print(f"{verdict}: {', '.join(where)}")
    for note in dict.fromkeys(note for one in comparisons for note in one.notes):
        without = {one.task for one in comparisons if note not in one.notes}
        named = [
            f"{one.task} ({one.setting})" if one.task in without else one.task
            for one in comparisons
            if note in one.notes
        ]
        print(f"note  {', '.join(dict.fromkeys(named))}: {note}")


def _p(value: float) -> str:
    return "<0.001" if value < 0.0005 else f"{value:.3f}"


def tables(*, results: options.Results = RESULTS) -> int:
    """Write tables and leaderboard anew from the result files.

    Examples:
      ssl4eo-bench tables
      ssl4eo-bench tables --results ../results
    """
    for file in _generated(results, "table"):
        print(file)
    return 0


def _generated(results: Path, kind: str) -> list[Path]:
    """Write what is generated from results, and return the files of a kind; say so if there are none."""
    from ssl4eo_bench.results.views import write_generated_files

    files = write_generated_files(results)[kind]
    if not files:
        print(
            f"no result in {results} enters a table; `ssl4eo-bench list runs --results {results}` shows what there is",
            file=sys.stderr,
        )
    return files


def leaderboard(
    *,
    task: Annotated[options.Tasks, "only these; the mean is over them"] = (),
    protocol: Annotated[options.Protocols, "only these"] = (),
    metric: Annotated[options.Names, "show these; ranks, mean and gaps are of the first"] = (),
    format_: Annotated[
        Literal["csv", "md", "html", "latex"] | None, "(default: by the ending of --out, or else md)"
    ] = None,
    sample: Annotated[bool, "of the runs on the embedded sample"] = False,
    out: Annotated[options.File | None, "write the view to a file"] = None,
    results: options.Results = RESULTS,
) -> int:
    """Print the leaderboard, written anew from the result files, or a view of it.

    With any option but --results, a view of the official results, or of those on the sample, is printed, or written to
    --out.

    Examples:
      ssl4eo-bench leaderboard
      ssl4eo-bench leaderboard --sample
      ssl4eo-bench leaderboard --task eurosat --metric macro_f1 --format latex --out table.tex
    """
    from ssl4eo_bench.results.files import RunFilter
    from ssl4eo_bench.results.views import FORMATS, chosen_leaderboard, refuse_generated

    if not any((task, protocol, metric, format_, sample, out)):
        for file in _generated(results, "leaderboard"):
            print(file)
            if file.suffix == ".md":
                print(file.read_text(encoding="utf-8"))
        return 0
    if out:
        refuse_generated(out, results)
    wanted = RunFilter(tasks=task, protocols=protocol)
    board = chosen_leaderboard(results, wanted, metrics=metric, sample=sample)
    text = FORMATS[format_ or ENDINGS.get(out.suffix if out else "", "md")](board)
    if out:
        write_text(out, text)
        print(out)
    else:
        print(text, end="")
    return 0


def export(
    run: Annotated[tuple[options.Run, ...], "as in `show`"],
    *,
    out: Annotated[options.File, "the YAML file"],
    url: Annotated[str | None, "where the results are published, for the source of the numbers"] = None,
    results: options.Results = RESULTS,
) -> int:
    """Write runs of a checkpoint as the model index of a Hugging Face model card.

    The runs have to be official and of one checkpoint. The model index is YAML.

    Examples:
      ssl4eo-bench export eurosat-rgb-v1/linear-v2/bandstats/seed0 --out model-index.yaml
      ssl4eo-bench export 5f3a09c2 77c1de40 --out model-index.yaml --url https://example.org/results
    """
    from ssl4eo_bench.results.files import find_result
    from ssl4eo_bench.results.model_index import model_index

    found = {result.digest: result for result in (find_result(results, name) for name in run)}
    write_text(out, model_index(list(found.values()), url))
    print(out)
    return 0


def report(
    *,
    task: Annotated[options.Tasks, "only these", TO_REPORT] = (),
    protocol: Annotated[options.Protocols, "only these", TO_REPORT] = (),
    sample: Annotated[bool, "the runs on the embedded sample", TO_REPORT] = False,
    out: Annotated[options.File, "the page (default: ./report.html)"] = Path("report.html"),
    figures: Annotated[options.Folder | None, "write each figure as PNG, SVG and PDF, too"] = None,
    results: options.Results = RESULTS,
    cache_dir: options.CacheDir = None,
) -> int:
    """Write one HTML page about the results: leaderboard, figures, provenance.

    Examples:
      ssl4eo-bench report
      ssl4eo-bench report --sample --out sample.html
      ssl4eo-bench report --task eurosat --figures figures
    """
    from ssl4eo_bench.results.files import RunFilter
    from ssl4eo_bench.results.report.render import write_report

    page, *drawn = write_report(
        results,
        out,
        cache_dir=cache_root(cache_dir),
        figures_dir=figures,
        wanted=RunFilter(tasks=task, protocols=protocol),
        sample=sample,
    )
    print(page)
    if drawn:
        print(f"{len(drawn)} figure files in {figures}")
    return 0


def check(
    *,
    results: options.Results = RESULTS,
    against: Annotated[Base | None, "a commit or a results directory (default: the last commit, HEAD)"] = None,
    markdown: Annotated[options.File | None, "write the findings as Markdown"] = None,
    junit: Annotated[options.File | None, "write them as JUnit XML"] = None,
) -> int:
    """Check results, alone and against what they were; exits with 1 on findings.

    Examples:
      ssl4eo-bench check
      ssl4eo-bench check --against main --junit findings.xml
    """
    from ssl4eo_bench.results.check.baseline import baseline_of
    from ssl4eo_bench.results.check.findings import as_junit, as_markdown
    from ssl4eo_bench.results.check.gate import check as gate

    report = gate(results, baseline_of(results, against))
    if report.findings:
        columns = ["file", "what is wrong", "cure"]
        table("", columns, [(one.file, one.what, one.cure) for one in report.findings], prose=columns)
    for note in report.notes:
        print(f"note: {note}")
    print(report.summary)
    if markdown:
        write_text(markdown, as_markdown(report))
    if junit:
        write_text(junit, as_junit(report))
    return 1 if report.findings else 0
