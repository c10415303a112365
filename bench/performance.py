"""Write docs/performance.md, or another page, and its plot: `python bench/performance.py REPORT.json [MORE.json ...]`.

The reports are what `compare.py` writes; how time and memory grow, what a dilation costs and what
threads gain is measured now.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: make `bench` importable, and numbacnn from the same checkout
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench import cases, dilation, growth, peak, report, roofline, scaling, streams

DOCS = Path(__file__).resolve().parents[1] / "docs"
MOST_ROWS = 12  # of those that gain least or lose most


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("reports", nargs="+", type=Path, help="what compare.py wrote as JSON")
    parser.add_argument("--docs", type=Path, default=DOCS, help="folder to write to (default: %(default)s)")
    parser.add_argument("--name", default="performance", help="of the page and its plot (default: %(default)s)")
    options = parser.parse_args(arguments)
    reports = [json.loads(path.read_text()) for path in options.reports]
    gigabytes = peak.bandwidth(reports[0]["threads"])
    points = [point for results in reports for point in roofline.points(results, gigabytes)]
    peaks = {dtype: max(rates) for results in reports for dtype, rates in results["peak"].items() if rates}
    plot = f"{options.name}.png"
    roofline.plot(options.docs / plot, points, peaks, gigabytes)
    gains = scaling.rows(cases.load("layers"), reports[0]["threads"])
    losses = dilation.rows(cases.load("dilated"), reports[0]["threads"])
    text = page(reports, points, gigabytes, growth.rows(), gains, losses, plot)
    (options.docs / f"{options.name}.md").write_text(text)


def page(
    reports: list[dict[str, Any]],
    points: list[roofline.Point],
    gigabytes: float,
    growing: list[list[str]],
    gains: tuple[list[list[str]], str],
    losses: tuple[list[list[str]], str],
    plot: str,
) -> str:
    """The whole page."""
    moving = streams.rows(reports)
    short = sorted((point for point in points if point.limit), key=lambda point: point.share)
    sections = [
        f"# Performance: {reports[0]['machine']['cpu']}",
        "Written by `python bench/performance.py REPORT.json ...` from the reports of `bench/compare.py`.",
        "## Against other libraries",
        report.METHOD,
        report.table(report.SUMMARY_HEAD, [row for results in reports for row in report.summary(results["entries"])]),
        "The runs of these, in the same order:",
        *(text for results in reports for text in report.run(results)),
        "## Against the machine",
        f"{reports[0]['threads']} threads copy memory at {gigabytes:.1f} GB/s, read and written. Each mark is a "
        "convolution, the line what the machine allows it. Winograd's and Fourier's algorithms need fewer operations "
        "than are counted and may lie above it.",
        f"![Roofline: rate over operations per byte]({plot})",
        "## What limits those that fall short",
        f"{len(short)} of {len(points)} convolutions reach less than {roofline.GOOD:.0%} of what the machine allows. "
        "Those that the call limits would take less than 20 microseconds at the machine's own speed.",
        report.table(SHORT_HEAD, [_short(point) for point in short]),
        "## What only moves memory",
        moving[1],
        report.table(streams.HEAD, moving[0]),
        "## Growth",
        "Forward convolutions of signals in float32, one extent growing over three decades. Time per operation should "
        "fall or stay; memory is what a call holds besides input, weights and output.",
        report.table(growth.HEAD, growing),
        "## Dilation",
        losses[1],
        "Those that lose most:",
        report.table(dilation.HEAD, losses[0][:MOST_ROWS]),
        "## Threads",
        gains[1],
        "Those that gain least:",
        report.table(scaling.HEAD, gains[0][:MOST_ROWS]),
    ]
    return "\n\n".join(sections) + "\n"


SHORT_HEAD = ["case", "direction", "dtype", "algorithm", "ms", "GFLOP/s", "of attainable", "limited by"]


def _short(p: roofline.Point) -> list[str]:
    figures = [f"{p.seconds * 1e3:.3g}", f"{p.gflops:.3g}", f"{p.share:.0%}"]
    return [p.case, p.direction, p.dtype, p.algorithm, *figures, p.limit]


if __name__ == "__main__":
    main()
