"""numbacnn beside other libraries: `python bench/compare.py --help`.

Every library works in its own process. A case's results are checked against float64 samples and against each other,
then the libraries are timed in turns. The report is written as JSON and as Markdown, and on request into the README.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a script: make `bench` importable, and numbacnn from the same checkout
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from bench import cases, machine, memory, report, startup
from bench.cases import Case
from bench.libraries import Unsupported
from bench.load import BUSY
from bench.measure import OURS, Effort, add_memory, measure
from bench.worker import Worker, WorkerFailed

ROOT = Path(__file__).resolve().parents[1]
DEFAULT_SHAPES = "conv,depthwise_grouped"
QUICK = Effort(rounds=5, budget=0.03)


def main(arguments: list[str] | None = None) -> int:
    """0 if every result of numbacnn was right."""
    options = _parser().parse_args(arguments)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    if options.render:
        results = json.loads(options.render.read_text())
    else:
        results = run(options)
        options.output.with_suffix(".json").write_text(json.dumps(results, indent=1) + "\n")
    text = report.markdown(results)
    options.output.with_suffix(".md").write_text(text)
    print(text if options.print else "\n".join(map(str, _headlines(results))))
    if options.readme:
        report.write_readme(options.readme, report.readme_section(results))
    wrong = [e for e in results["entries"] if e["libraries"].get(OURS, {}).get("wrong")]
    for entry in wrong:
        print(f"{entry['case']} {entry['direction']}: {entry['libraries'][OURS]['refused']}", file=sys.stderr)
    return 1 if wrong else 0


def run(options: argparse.Namespace) -> report.Report:
    """Measure what the options ask for."""
    names = [OURS, *_split(options.against)]
    plan = list(_plan(options))
    if not plan:
        raise SystemExit("no case matches these --shapes, --filter and --directions")
    effort = Effort(options.rounds, options.budget, options.attempts)
    if options.quick:
        effort = replace(effort, rounds=QUICK.rounds, budget=QUICK.budget)
    results: report.Report = {
        "date": datetime.datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        "command": _command(options),
        "machine": machine.describe(),
        "threads": options.threads,
        "rounds": effort.rounds,
        "block_seconds": effort.budget,
        "memory_method": memory.METHOD if options.memory else "",
        "versions": {},
        "peak": {},
        "bandwidth": [],
        "entries": [],
    }
    with contextlib.ExitStack() as stack:
        workers = [stack.enter_context(Worker(name, options.threads)) for name in names]
        workers = [worker for worker in workers if _installed(worker, results["versions"])]
        probes = [stack.enter_context(Worker(w.library, options.threads)) for w in workers if options.memory]
        if any(getattr(case, "unit", "") == "GB/s" for _, case, _, _ in plan):
            results["bandwidth"] = [workers[0].ask("bandwidth") for _ in range(2)]
        for group, case, direction, dtype in plan:
            if group == "startup":
                entry = startup.measure_startup(case, list(results["versions"]), effort.rounds)
            else:
                results["peak"].setdefault(dtype, []).append(workers[0].ask("peak", dtype))
                entry = _entry(case, direction, dtype, workers, probes, effort)
            results["entries"].append({"group": group} | entry)
            print(_line(entry), file=sys.stderr, flush=True)
    add_shares(results)
    return results


def _plan(options: argparse.Namespace) -> Iterator[tuple[str, Any, str, str]]:
    """Everything to measure, in order: (group, case, direction, dtype)."""
    wanted = _split(options.directions)
    for group in _split(options.shapes):
        if group == "startup":
            for name in startup.CASES:
                yield group, name, "start", "float32"
            continue
        members = cases.load(group, options.filter)
        for dtype in _split(options.dtype):
            for direction in members[0].directions if members else ():
                if not wanted or direction in wanted:
                    for case in members:
                        yield Path(group).stem, case, direction, dtype


def _entry(
    case: Case, direction: str, dtype: str, workers: list[Worker], probes: list[Worker], effort: Effort
) -> dict[str, Any]:
    try:
        entry = _quietest(case, direction, dtype, workers, effort)
        add_memory(entry, case, probes)
    except WorkerFailed as failure:  # after validation: a crash or a hang while timed
        library = str(failure).partition(":")[0]
        entry = {"case": case.name, "description": str(case), "direction": direction, "dtype": dtype}
        entry |= {"unit": case.unit, "ratios": {}, "libraries": {library: {"refused": str(failure), "wrong": True}}}
    return entry


def _quietest(case: Case, direction: str, dtype: str, workers: list[Worker], effort: Effort) -> dict[str, Any]:
    """Measure until other processes leave the machine alone, at most `effort.attempts` times; the calmest attempt."""
    attempts = []
    for _ in range(effort.attempts):
        attempts.append(measure(case, direction, dtype, workers, effort))
        if (attempts[-1]["foreign_load"] or 0) <= BUSY:
            break
    return min(attempts, key=lambda entry: entry["foreign_load"] or 0)


def _installed(worker: Worker, versions: dict[str, str]) -> bool:
    try:
        versions[worker.library] = worker.ask("version")
    except Unsupported as reason:
        if worker.library == OURS:
            raise
        print(f"{worker.library} is left out: {reason}", file=sys.stderr)
        return False
    return True


def add_shares(results: report.Report) -> None:
    """Rates as shares of what the machine can do, by the best seen in the run: noise makes them look smaller.

    Arrays that stay in caches are moved faster than memory allows: their shares exceed 1.
    """
    for entry in results["entries"]:
        ceilings = {"GFLOP/s": results["peak"].get(entry["dtype"]), "GB/s": results["bandwidth"]}.get(entry["unit"])
        for timing in entry["libraries"].values() if ceilings else ():
            if "rate" in timing:
                timing["share_of_peak"] = timing["rate"] / max(ceilings)


def _line(entry: dict[str, Any]) -> str:
    """Progress: one line per entry."""
    times = [
        f"{name} {timing['seconds'] * 1e3:.3f} ms" if "seconds" in timing else f"{name}: {timing['refused']}"
        for name, timing in entry["libraries"].items()
    ]
    faster = [f"{ratio['ratio']:.2f}×" for ratio in entry["ratios"].values()]
    busy = [f"(others kept the machine {load:.0%} busy)"] if (load := entry.get("foreign_load") or 0) > BUSY else []
    return "  ".join([f"{entry['case']:28} {entry['direction']:15} {entry['dtype']}", *times, *faster, *busy])


def _headlines(results: report.Report) -> Iterator[str]:
    for row in report.summary(results["entries"]):
        yield "  ".join(f"{head} {cell.strip('*')}" for head, cell in zip(report.SUMMARY_HEAD, row, strict=True))


def _command(options: argparse.Namespace) -> str:
    """The command line that repeats the measurement, without where its results went."""
    words = ["python bench/compare.py", f"--shapes {options.shapes}", f"--dtype {options.dtype}"]
    words += [f"--threads {options.threads}", f"--against {options.against}"]
    words += [f"--filter '{options.filter}'"] if options.filter else []
    words += [f"--directions {options.directions}"] if options.directions else []
    words += ["--quick"] if options.quick else [f"--rounds {options.rounds}", f"--budget {options.budget:g}"]
    words += ["--memory"] if options.memory else ["--no-memory"]
    return " ".join(words)


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare numbacnn with other libraries, each in its own process.")
    known = ", ".join([*cases.groups(), "startup"])
    add = parser.add_argument
    add("--shapes", default=DEFAULT_SHAPES, help=f"tables to measure: {known}, or a path (default: %(default)s)")
    add("--filter", default="", help="regular expression that names of cases must match")
    add("--directions", default="", help="forward,backward_data,backward_weight,... (default: all that a table has)")
    add("--dtype", default="float32", help="float32, float64 or both with a comma (default: %(default)s)")
    add("--threads", type=int, default=2, help="threads of every library (default: %(default)s)")
    add("--against", default="torch", help="torch,onnxruntime,openvino,numpy (default: %(default)s)")
    add("--rounds", type=int, default=Effort.rounds, help="alternations per case (default: %(default)s)")
    add("--budget", type=float, default=Effort.budget, help="seconds per block (default: %(default)s)")
    add(
        "--attempts",
        type=int,
        default=Effort.attempts,
        help="measure a case again, up to so often, if other processes were busy meanwhile (default: %(default)s)",
    )
    add("--quick", action="store_true", help=f"{QUICK.rounds} alternations of {QUICK.budget} s")
    add(
        "--memory",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="also measure how much memory a call takes beyond its operands and result",
    )
    add(
        "--output",
        type=Path,
        default=ROOT / ".benchmarks" / "compare",
        help="where the report goes, as .json and .md (default: %(default)s)",
    )
    add("--print", action="store_true", help="print the whole report, not only its summary")
    add("--from", dest="render", type=Path, metavar="JSON", help="measure nothing, render an earlier report")
    add(
        "--readme",
        type=Path,
        nargs="?",
        const=ROOT / "README.md",
        help=f"also write the short table between {report.BEGIN} and {report.END} of this file (default: README.md)",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
