"""From a report (what `compare.py` writes as JSON) to Markdown: whole, or the dated table of the README."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from statistics import geometric_mean, median
from typing import Any

from .load import BUSY
from .measure import OURS

BEGIN, END = "<!-- bench:begin -->", "<!-- bench:end -->"
MOST_NAMED = 8  # of the cases that were disturbed

Report = dict[str, Any]
Entry = dict[str, Any]


def markdown(report: Report) -> str:
    """Everything: how it was measured, one line per group and direction, one line per case."""
    sections = ["# Benchmark", *circumstances(report), "## Summary", table(SUMMARY_HEAD, summary(report["entries"]))]
    for (group, direction, dtype), entries in _tables(report["entries"]):
        sections += [f"## {group}, {direction}, {dtype}", table(*_details(list(entries)))]
    return "\n\n".join(sections) + "\n"


def readme_section(report: Report) -> str:
    """The README's part: the summary, and the forward convolutions one by one."""
    forward = [
        e for e in report["entries"] if (e["group"], e["direction"], e["dtype"]) == ("conv", "forward", "float32")
    ]
    sections = [*circumstances(report), table(SUMMARY_HEAD, summary(report["entries"]))]
    if forward:
        sections += ["Forward convolution, float32, shape by shape:", table(*_details(forward, brief=True))]
    return "\n\n".join(sections)


def write_readme(path: Path, section: str) -> None:
    """Put `section` between the markers of the file at `path`."""
    text = path.read_text()
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(BEGIN) > text.index(END):
        raise ValueError(f"{path} must contain {BEGIN} and, after it, {END}, once each")
    before, rest = text.split(BEGIN)
    after = rest.split(END)[1]
    path.write_text(f"{before}{BEGIN}\n\n{section}\n\n{END}{after}")


SUMMARY_HEAD = ["cases", "direction", "dtype", "against", "number", "geomean", "worst", "of case", "best", "wins"]


def summary(entries: Iterable[Entry]) -> list[list[str]]:
    """One row per group, direction, dtype and other library: how many times faster numbacnn is.

    Convolutions of one and of three axes have another row where there are some of two as well.
    """
    rows = []
    for (group, *rest), some in _tables(entries):
        compared = [entry for entry in some if entry["ratios"]]
        rows += _comparisons([group, *rest], compared)
        others = [entry for entry in compared if entry.get("axes") in (1, 3)]
        if 0 < len(others) < len(compared):
            rows += _comparisons([f"{group}, 1-D and 3-D", *rest], others)
    return rows


def _comparisons(key: list[str], compared: list[Entry]) -> list[list[str]]:
    """One row of a summary per other library."""
    rows = []
    for other in dict.fromkeys(name for entry in compared for name in entry["ratios"]):
        cases = {e["case"]: e["ratios"][other]["ratio"] for e in compared if other in e["ratios"]}
        worst = min(cases, key=cases.__getitem__)
        rows.append(
            [
                *key,
                other,
                str(len(cases)),
                f"**{geometric_mean(cases.values()):.2f}**",
                f"{cases[worst]:.2f}",
                worst,
                f"{max(cases.values()):.2f}",
                f"{sum(ratio >= 1 for ratio in cases.values())}/{len(cases)}",
            ]
        )
    return rows


def _details(entries: list[Entry], brief: bool = False) -> tuple[list[str], list[list[str]]]:
    """Head and rows of the table of one group, direction and dtype."""
    others = list(dict.fromkeys(name for entry in entries for name in entry["libraries"] if name != OURS))
    unit = entries[0]["unit"]
    head = ["case", "shape", f"{OURS} ms", unit]
    shares = any("share_of_peak" in _ours(entry) for entry in entries)
    memory = _memory_columns(entries, brief)
    head += ["of bandwidth" if unit == "GB/s" else "of peak"] * shares
    head += memory
    if not brief:
        head.append("error")
    for other in others:
        head += [f"{other} ms", unit] + memory + ["ratio"] + ([] if brief else ["quartiles"])
    if unit == "ms":  # the rate of a start is its time
        head = [column for column in head if column != "ms"]
    rows = []
    for entry in entries:
        row = [entry["case"], entry["description"], *_cells(_ours(entry), unit)]
        row += [_percent(_ours(entry).get("share_of_peak"))] * shares
        row += _memory(_ours(entry), memory)
        if not brief:
            row.append(_error(_ours(entry)))
        for other in others:
            timing, ratio = entry["libraries"].get(other, {}), entry["ratios"].get(other)
            row += [*_cells(timing, unit), *_memory(timing, memory), f"**{ratio['ratio']:.2f}**" if ratio else ""]
            if not brief:
                row.append(f"{ratio['low']:.2f}–{ratio['high']:.2f}" if ratio else "")
        rows.append(row)
    return head, rows


def circumstances(report: Report) -> Iterator[str]:
    """Where, when and how everything of a report was measured."""
    yield from run(report)
    yield METHOD


METHOD = (
    "Each library runs in a process of its own, in alternating blocks; every result is checked before it is timed. "
    f"Ratio: the other's time over {OURS}'s, so above 1 {OURS} is faster. {OURS} gets and returns channels-last "
    "memory; the others the better of contiguous and channels-last, converted beforehand. Times are medians over the "
    "blocks' medians. Rates count the operations of the definition, of which fast algorithms (Winograd's, Fourier "
    "transforms) need fewer: hence shares of the machine's peak over 100 %."
)


def run(report: Report) -> Iterator[str]:
    """What is particular to this run: the machine, the time, the command, and how undisturbed it was."""
    machine, versions = report["machine"], report["versions"]
    libraries = ", ".join(f"{name} {version}" for name, version in versions.items())
    yield (
        f"Measured on {report['date']}: {machine['cpu']}, {report['threads']} threads of {machine['cores']} cores, "
        f"{machine['system']}, Python {machine['python']}, NumPy {machine['numpy']}; {libraries} "
        f"(commit {machine['commit']}), {report['rounds']} blocks." + _peaks(report["peak"]) + _bandwidth(report)
    )
    yield f"```\n{report['command']}\n```"
    yield from _foreign_load(report["entries"])
    refused = list(_refused(report["entries"]))
    if refused:
        yield "Not timed:\n\n" + "\n".join(f"- {line}" for line in refused)
    if report.get("memory_method"):
        yield f"Extra memory: {report['memory_method']}."


def _peaks(peak: dict[str, list[float]]) -> str:
    """The peak's best value is what shares refer to; its median tells how undisturbed the run was."""
    if not peak:
        return ""
    values = ", ".join(f"{max(v):.0f} in {dtype} (median {median(v):.0f})" for dtype, v in peak.items())
    return f" Multiply-add peak of the machine in GFLOP/s, measured in registers: {values}."


def _bandwidth(report: Report) -> str:
    if not report.get("bandwidth"):
        return ""
    return f" {report['threads']} threads copy memory at {max(report['bandwidth']):.1f} GB/s, read and written."


def _foreign_load(entries: Iterable[Entry]) -> Iterator[str]:
    measured = [entry for entry in entries if entry.get("foreign_load") is not None]
    if not measured:
        return
    typical = median(entry["foreign_load"] for entry in measured)
    text = f"Other processes took {typical:.0%} of the processors' time (median over the cases)"
    disturbed = [_name(entry) for entry in measured if entry["foreign_load"] > BUSY]
    if disturbed:
        names = ", ".join(disturbed[:MOST_NAMED]) + (", ..." if len(disturbed) > MOST_NAMED else "")
        text += f"; over {BUSY:.0%} in {len(disturbed)} of {len(measured)}, **not to be relied on**: {names}"
    yield text + "."


def _refused(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        for name, library in entry["libraries"].items():
            if library.get("wrong"):
                yield f"{name}, {_name(entry)}: {library['refused']}"


def _name(entry: Entry) -> str:
    return f"{entry['case']} {entry['direction']} {entry['dtype']}"


def _tables(entries: Iterable[Entry]) -> Iterator[tuple[tuple[str, str, str], Iterator[Entry]]]:
    """Entries by group, direction and dtype, in the order in which these first appeared."""
    entries = list(entries)

    def key(entry: Entry) -> tuple[str, str, str]:
        return entry["group"], entry["direction"], entry["dtype"]

    order = {k: i for i, k in enumerate(dict.fromkeys(map(key, entries)))}
    yield from groupby(sorted(entries, key=lambda entry: order[key(entry)]), key)


def table(head: list[str], rows: Iterable[list[str]]) -> str:
    """Names to the left, numbers to the right."""
    rule = [":--" if column in ("case", "shape", "cases", "direction", "of case") else "--:" for column in head]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def _ours(entry: Entry) -> dict[str, Any]:
    return entry["libraries"].get(OURS, {})


def _cells(timing: dict[str, Any], unit: str) -> list[str]:
    """Milliseconds and rate, or what stands in their place."""
    count = 1 if unit == "ms" else 2
    if "seconds" not in timing:
        return ["wrong" if timing.get("wrong") else "–", *[""] * (count - 1)]
    return [f"{timing['seconds'] * 1e3:.3g}", f"{timing['rate']:.3g}"][:count]


def _percent(share: float | None) -> str:
    return "" if share is None else f"{share:.0%}"


# Head of a column, which figure it shows, and how.
_MEMORY = {
    "extra MB": ("extra_bytes", lambda figure: f"{figure / 1e6:.1f}"),
    "peak MB": ("peak_bytes", lambda figure: f"{figure / 1e6:.0f}"),
    "page faults": ("faults", lambda figure: f"{figure:.0f}"),
    "from pool": ("pool_hits", lambda figure: f"{figure:.1%}"),
}


def _memory_columns(entries: Iterable[Entry], brief: bool) -> list[str]:
    """The heads of the columns for which there are figures."""
    if brief:
        return []
    return [head for head, (figure, _) in _MEMORY.items() if any(figure in _ours(entry) for entry in entries)]


def _memory(timing: dict[str, Any], columns: Iterable[str]) -> list[str]:
    figures = [(timing.get(_MEMORY[column][0]), _MEMORY[column][1]) for column in columns]
    return ["" if figure is None else text(figure) for figure, text in figures]


def _error(timing: dict[str, Any]) -> str:
    return f"{timing['error']:.0e}" if "error" in timing else ""
