"""The benchmark's own honesty: tables are read right, wrong results are never timed, reports say what was measured."""

import itertools
import json
import math
import sys
from types import SimpleNamespace

import numpy as np
import pytest

import numbacnn as nc
from bench import (
    cases,
    choice,
    compare,
    growth,
    inputs,
    libraries,
    memory,
    peak,
    performance,
    reference,
    report,
    roofline,
    scaling,
    validate,
)
from bench.load import ForeignLoad
from bench.measure import Effort, measure
from bench.worker import Session, Worker, WorkerFailed
from numbacnn.ops.conv import winograd, winograd_choice

SMALL = """
# name       N C_in input -> C_out kernel stride padding dilation groups
image        2  6   7x8   ->  4    3x2    2x1    1x0     1        2
sequence     3  4   19    ->  8    5      1      4       2        1
volume       1  3   4x5x6 ->  3    3      1      1       1        3
"""


# ---- tables


def test_table_line_becomes_a_case():
    image, sequence, volume = cases.parse(SMALL)
    assert image.input_shape == (2, 6, 7, 8)
    assert image.weight_shape == (4, 3, 3, 2)
    assert image.output_shape == (2, 4, 4, 7)
    assert sequence.kernel == (5,)
    assert sequence.output_shape == (3, 8, 19)
    assert (volume.stride, volume.padding, volume.groups) == ((1, 1, 1), (1, 1, 1), 3)
    assert image.work("forward", 4) == 2 * math.prod((2, 4, 4, 7)) * 3 * 3 * 2
    assert str(image) == "2,6,7×8 -> 4, 3×2 s2×1 g2"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a 1 4 8 -> 4 3 1 1 1", "missing 1 required positional argument"),
        ("a 1 4 8x8 -> 4 3x3x3 1 1 1 1", "'3x3x3' does not have one number per axis"),
        ("a 1 4 8x8x8x8 -> 4 3 1 1 1 1", "does not have one number per axis"),
        ("a 1 4 8 -> 4 3 1 1 1 3", "3 groups do not divide 4 -> 4 channels"),
        ("a 1 4 8 -> 4 11 1 1 1 1", "output would be empty"),
        ("a 1 four 8 -> 4 3 1 1 1 1", "invalid literal"),
    ],
)
def test_bad_line_is_named(line, message):
    with pytest.raises(ValueError, match=f"^line 2: .*{message}"):
        cases.parse("# a table\n" + line)


def test_unknown_function_is_named(tmp_path):
    table = tmp_path / "activation.txt"
    table.write_text("a softmin 1 4 8\n")
    with pytest.raises(ValueError, match="^line 1: .*the function is one of relu, leaky_relu, .*, got 'softmin'"):
        cases.load(str(table))


def test_names_are_unique():
    with pytest.raises(ValueError, match="repeated: a"):
        cases.parse("a 1 4 8 -> 4 3 1 1 1 1\na 1 4 9 -> 4 3 1 1 1 1")


def test_shipped_tables():
    counts = {group: len(cases.load(group)) for group in cases.groups()}
    assert counts["conv"] == 14
    assert counts["layers"] >= 60
    assert {"depthwise_grouped", "long_kernel", "pool", "norm", "linear", "matmul", "train"} <= counts.keys()
    assert all(case.groups > 1 for case in cases.load("depthwise_grouped"))
    assert [case.name for case in cases.load("conv", "^mnist")] == ["mnist_1_28_b64"]
    with pytest.raises(ValueError, match=r"no shape table 'convolutions'; known are activation, arithmetic, conv, "):
        cases.load("convolutions")


def test_inputs_depend_on_the_case_alone():
    case = cases.parse(SMALL)[0]
    first, again = inputs.make(case, "float32"), inputs.make(case, "float32")
    assert first.keys() == {"x", "weight", "grad_output"}
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert inputs.make(case, "float64")["x"].dtype == np.float64


# ---- validation

POOL = cases.PoolCase("p", 2, 3, (7, 6), "max", (3, 2), (2, 2), (1, 0))
SEQUENCE_POOL = cases.PoolCase("q", 2, 3, (9,), "avg", (3,), (2,), (1,))
NORM = cases.NormCase("n", 3, 5, (4, 3))
LINEAR = cases.LinearCase("l", 5, 7, 6)
MATMUL = cases.MatmulCase("m", 5, 7, 6)
ACTIVATIONS = [cases.ActivationCase(name, name, 2, 3, (5, 4)) for name in cases.ActivationCase.functions]
VECTORS = cases.ActivationCase("softmax_of_vectors", "softmax", 3, 5, ())
ARITHMETIC = [cases.ArithmeticCase(name, name, 2, 3, (7,)) for name in cases.ArithmeticCase.functions]
ALL_CASES = [
    *cases.parse(SMALL),
    *(POOL, SEQUENCE_POOL, NORM, LINEAR, MATMUL),
    *ACTIVATIONS,
    VECTORS,
    *ARITHMETIC,
]


@pytest.fixture(scope="module", params=["numbacnn", "numpy", "torch", "onnxruntime"])
def library(request):
    """Every library in its own process (some change global state); skipped where it is not installed."""
    with Worker(request.param, 2) as worker:
        try:
            worker.ask("version")
        except libraries.Unsupported as reason:
            if request.param == "numbacnn":
                raise
            pytest.skip(str(reason))
        yield worker


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", ALL_CASES, ids=lambda case: case.name)
def test_adapters_agree_with_the_reference(library, case, dtype):
    """Implementations that share nothing, the sampled reference being one of them."""
    for direction in case.directions:
        try:
            variants = library.ask("prepare", case, direction, dtype)
        except libraries.Unsupported:
            assert library.library != "numbacnn"
            continue
        expected = reference.sample(case, direction, inputs.make(case, dtype))
        for variant in variants:
            error = validate.check_sample(library.ask("result", variant), expected, dtype)
            assert error <= validate.TOLERANCE[dtype]


def test_reference_is_the_adjoint():
    """backward_data of the reference against forward of im2col: <conv(e_i), g> is the gradient's entry i."""
    for case in cases.parse(SMALL):
        arrays = inputs.make(case, "float64")
        ((index, values),) = reference.sample(case, "backward_data", arrays).values()
        for place, value in zip(zip(*index, strict=True), values, strict=True):
            unit = np.zeros(case.input_shape)
            unit[place] = 1
            forward = libraries.connect("numpy", 1).prepare(case, "forward", arrays | {"x": unit})["contiguous"]
            assert np.vdot(forward(), arrays["grad_output"]) == pytest.approx(value, abs=1e-12)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda y: {"output": y * np.float32(1.001)}, "of the largest magnitude, tolerance 1e-04"),
        (lambda y: {"output": np.where(y == y.flat[0], np.nan, y)}, "nan instead of"),
        (lambda y: {"output": y.astype(np.float64)}, "output is float64, not float32"),
        (lambda y: {"output": y[..., :-1]}, "too small for its entries"),
        (lambda y: {"values": y}, r"there is no output among the results \['values'\]"),
    ],
)
def test_wrong_results_are_refused(damage, message):
    case = cases.parse(SMALL)[0]
    arrays = inputs.make(case, "float32")
    result = libraries.connect("numpy", 1).prepare(case, "forward", arrays)["contiguous"]()
    expected = reference.sample(case, "forward", arrays)
    expected["output"][0][0][0], expected["output"][0][1][0] = 0, 0  # the corner (0, 0, 0, 0) is an entry
    expected["output"][1][0] = result[0, 0, 0, 0]
    assert validate.check_sample({"output": result}, expected, "float32") < 1e-6
    with pytest.raises(validate.WrongResult, match=message):
        validate.check_sample(damage(result), expected, "float32")


def test_agreement_sees_every_entry():
    one = {"output": np.ones((3, 4))}
    other = {"output": np.ones((3, 4))}
    assert validate.check_agreement(one, other, "float64") == 0
    other["output"][2, 1] = 1.001
    with pytest.raises(validate.WrongResult, match=r"1.0 instead of 1.001 at \(2, 1\)"):
        validate.check_agreement(one, other, "float64")
    with pytest.raises(validate.WrongResult, match=r"shape \(3, 4\), expected \(4, 3\)"):
        validate.check_agreement(one, {"output": np.ones((4, 3))}, "float64")
    with pytest.raises(validate.WrongResult, match="not the same arrays"):
        validate.check_agreement(one, {"grad_input": one["output"]}, "float64")


# ---- workers

STAND_INS = '''
import os, time
from bench.libraries import numpy

class Broken(numpy.NumPy):
    """Right but for one tap in the last row of the last sample."""
    def prepare(self, case, direction, arrays):
        (call,) = super().prepare(case, direction, arrays).values()
        def broken():
            result = call()
            result[-1, :, -1] *= 0.9
            return result
        return {"contiguous": broken}

class Crashing(numpy.NumPy):
    def prepare(self, case, direction, arrays):
        return {"contiguous": lambda: os._exit(7)}

class Hanging(numpy.NumPy):
    def prepare(self, case, direction, arrays):
        return {"contiguous": lambda: time.sleep(60)}
'''


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Makes `broken`, `crashing` or `hanging` a library; worker processes inherit the path."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def library(name):
        (tmp_path / "stand").mkdir(exist_ok=True)
        code = f"{STAND_INS}\ndef connect(threads): return {name.capitalize()}()\n"
        (tmp_path / "stand" / f"{name}.py").write_text(code)
        return f"stand.{name}"

    return library


def test_a_wrong_library_is_not_timed(stand_in):
    case = cases.parse(SMALL)[0]
    with Worker("numpy", 1) as honest, Worker(stand_in("broken"), 1) as broken:
        entry = measure(case, "forward", "float32", [honest, broken], Effort(rounds=2, budget=0.001))
        assert broken.ask("time_block", "contiguous", 0.001)[1] >= 1  # it could have been timed
    right, wrong = entry["libraries"]["numpy"], entry["libraries"]["stand.broken"]
    assert wrong["wrong"]
    assert "of the largest magnitude" in wrong["refused"]
    assert "seconds" not in wrong
    assert len(right["blocks"]["contiguous"]) == 2
    assert right["seconds"] > 0
    assert entry["ratios"] == {}


def test_unsupported_is_no_failure():
    case = cases.parse(SMALL)[0]
    with Worker("numpy", 1) as worker:
        entry = measure(case, "backward_data", "float32", [worker], Effort(rounds=2, budget=0.001))
    assert entry["libraries"]["numpy"] == {"refused": "no backward_data of ConvCase", "wrong": False}


def test_a_crash_is_reported_and_survived(stand_in):
    case = cases.parse(SMALL)[0]
    with Worker(stand_in("crashing"), 1) as worker:
        worker.ask("prepare", case, "forward", "float32")
        with pytest.raises(WorkerFailed, match=r"its process died during result \(exit code 7\)"):
            worker.ask("result", "contiguous")
        assert worker.ask("version") == np.__version__
        with pytest.raises(WorkerFailed, match="KeyError"):
            worker.ask("result", "contiguous")


def test_a_hanging_library_is_stopped(stand_in):
    case = cases.parse(SMALL)[0]
    with Worker(stand_in("hanging"), 1, timeout=20) as worker:
        worker.ask("prepare", case, "forward", "float32")
        worker._timeout = 0.2
        with pytest.raises(WorkerFailed, match="no answer to result within 0.2 s"):
            worker.ask("result", "contiguous")


def test_a_block_times_calls_after_an_untimed_one():
    session = Session("numpy", 1)
    calls = []
    session.calls = {"contiguous": lambda: calls.append(None)}
    seconds, count = session.time_block("contiguous", 0.001)
    assert seconds >= 0
    assert count == len(calls) - 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the high-water mark is Linux's")
def test_extra_memory_is_seen():
    def call():
        return np.ones(40_000_000, np.uint8)[::2].copy()

    found = memory.extra_bytes(call, lambda result: result.nbytes, lambda: None)
    if found is None:
        pytest.skip("this system does not let the high-water mark be reset")
    assert 36e6 < found < 48e6


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the high-water mark is Linux's")
def test_memory_of_training_steps():
    """Fresh pages are seen as faults and in the peak; of the last step's eight requests the pool met six."""
    steps = []

    def step():
        steps.append(np.ones(20_000_000 * (1 + len(steps)), np.uint8).sum())

    counts = iter([(10, 5), (16, 7)])
    figures = memory.training(step, lambda: None, lambda: next(counts))
    assert len(steps) == memory.STEPS_TO_SETTLE + 1
    assert figures["pool_hits"] == 0.75
    assert figures["faults"] > 0
    assert figures.get("peak_bytes", 60e6) >= 60e6
    assert "pool_hits" not in memory.training(step, lambda: None, lambda: None)


def test_memory_of_training_is_reported(results):
    entry = _entry("step", 1e-3, 2e-3) | {"group": "train_deep", "unit": "samples/s"}
    entry["libraries"]["numbacnn"] |= {"peak_bytes": 300_000_000, "faults": 12, "pool_hits": 0.987}
    entry["libraries"]["torch"] |= {"peak_bytes": 400_000_000, "faults": 3456}
    results["entries"] = [entry]
    text = report.markdown(results)
    assert "| extra MB | peak MB | page faults | from pool |" in text
    assert "| 300 | 12 | 98.7% |" in text
    assert "| 400 | 3456 |  |" in text


def test_foreign_load_is_a_share():
    load = ForeignLoad([])
    sum(i * i for i in range(300_000))
    share = load.share()
    assert share is None or 0 <= share <= 1


# ---- reports


def _timing(seconds, **more):
    return {"variant": "channels_last", "seconds": seconds, "rate": 1e-3 / seconds, "error": 1e-6, **more}


def _entry(name, ours, theirs, direction="forward"):
    return {
        "group": "conv",
        "case": name,
        "description": "1,64,56×56 -> 64, 3×3",
        "direction": direction,
        "dtype": "float32",
        "unit": "GFLOP/s",
        "libraries": {
            "numbacnn": _timing(ours, share_of_peak=0.914, extra_bytes=3_400_000),
            "torch": _timing(theirs, extra_bytes=0),
        },
        "ratios": {"torch": {"ratio": theirs / ours, "low": 0.9 * theirs / ours, "high": 1.1 * theirs / ours}},
    }


@pytest.fixture
def results():
    refused = {"refused": "output against float64: 1 instead of 2", "wrong": True}
    return {
        "date": "2024-02-03 04:05",
        "command": "python bench/compare.py --shapes conv",
        "machine": {
            "cpu": "A CPU (AVX2)",
            "cores": "4",
            "system": "Linux x86_64",
            "python": "3.12.1",
            "numpy": "2.0.0",
            "commit": "abc",
        },
        "threads": 2,
        "rounds": 7,
        "memory_method": memory.METHOD,
        "versions": {"numbacnn": "0.1.0", "torch": "2.0"},
        "peak": {"float32": [200.0, 190.0, 204.4]},
        "bandwidth": [],
        "entries": [
            _entry("a", 1e-3, 2e-3),
            _entry("a", 1e-3, 1e-3, "backward_data"),
            _entry("b", 4e-3, 2e-3),
            _entry("c", 1e-3, 8e-3) | {"ratios": {}, "libraries": {"numbacnn": _timing(1e-3), "torch": refused}},
        ],
    }


def test_summary(results):
    forward, backward = report.summary(results["entries"])
    assert forward == ["conv", "forward", "float32", "torch", "2", "**1.00**", "0.50", "b", "2.00", "1/2"]
    assert backward[1:6] == ["backward_data", "float32", "torch", "1", "**1.00**"]


def test_shares_are_of_what_limits(results):
    """Arithmetic by the best peak, what only moves memory by the best bandwidth."""
    moving = _entry("d", 1e-3, 1e-3) | {"group": "norm", "unit": "GB/s"}
    results["entries"].append(moving)
    results["bandwidth"] = [10.0, 4.0]
    compare.add_shares(results)
    timing = moving["libraries"]["numbacnn"]
    assert timing["share_of_peak"] == timing["rate"] / 10.0
    timing = results["entries"][0]["libraries"]["torch"]
    assert timing["share_of_peak"] == timing["rate"] / 204.4
    text = report.markdown(results)
    assert "| of bandwidth |" in text
    assert "2 threads copy memory at 10.0 GB/s" in text


def test_markdown(results):
    text = report.markdown(results)
    assert "Measured on 2024-02-03 04:05: A CPU (AVX2), 2 threads of 4 cores" in text
    assert "204 in float32 (median 200)" in text
    assert "- torch, c forward float32: output against float64: 1 instead of 2" in text
    row = "| a | 1,64,56×56 -> 64, 3×3 | 1 | 1 | 91% | 3.4 | 1e-06 | 2 | 0.5 | 0.0 | **2.00** | 1.80–2.20 |"
    assert row in text
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_busy_machine_is_confessed(results):
    for entry, load in zip(results["entries"], (0.0, 0.01, 0.02, 0.4), strict=True):
        entry["foreign_load"] = load
    text = report.markdown(results)
    assert "Other processes took 2% of the processors' time (median over the cases); over 5% in 1 of 4 cases" in text


def test_readme_section_goes_between_its_markers(results, tmp_path):
    path = tmp_path / "README.md"
    path.write_text(f"# Title\n\n{report.BEGIN}\nold\n{report.END}\n\nrest\n")
    for _ in range(2):  # writing is repeatable
        report.write_readme(path, report.readme_section(results))
    text = path.read_text()
    assert text.startswith(f"# Title\n\n{report.BEGIN}\n\nMeasured on")
    assert text.endswith(f"\n\n{report.END}\n\nrest\n")
    assert "old" not in text
    assert "python bench/compare.py --shapes conv" in text
    assert "| b |" in text
    path.write_text("# Title\n")
    with pytest.raises(ValueError, match=r"must contain <!-- bench:begin --> and, after it, <!-- bench:end -->"):
        report.write_readme(path, "")


def test_compare_refuses_an_empty_selection():
    with pytest.raises(SystemExit, match="no case matches"):
        compare.main(["--filter", "no such case"])


def test_compare_end_to_end(tmp_path, capsys):
    """The real program on tiny problems: measure, write, render again."""
    (tmp_path / "tiny.txt").write_text(SMALL)
    output = tmp_path / "out" / "report"
    arguments = ["--shapes", str(tmp_path / "tiny.txt"), "--against", "numpy"]
    arguments += ["--filter", "image", "--rounds", "2", "--budget", "0.001", "--threads", "1"]
    assert compare.main([*arguments, "--no-memory", "--output", str(output)]) == 0
    results = json.loads(output.with_suffix(".json").read_text())
    assert results["command"].startswith("python bench/compare.py --shapes")
    assert [entry["direction"] for entry in results["entries"]] == list(cases.ConvCase.directions)
    assert {entry["group"] for entry in results["entries"]} == {"tiny"}
    forward = results["entries"][0]
    assert forward["libraries"]["numbacnn"]["share_of_peak"] > 0
    assert forward["ratios"]["numpy"]["ratio"] > 0
    written = output.with_suffix(".md").read_text()
    assert "## tiny, backward_weight, float32" in written
    capsys.readouterr()
    rendered = ["--from", str(output.with_suffix(".json")), "--output", str(tmp_path / "again"), "--print"]
    assert compare.main(rendered) == 0
    assert capsys.readouterr().out.strip() == written.strip()


# ---- the performance page


@pytest.mark.parametrize(
    ("milliseconds", "limit"),
    [(1.0, ""), (10.0, "setting up a tile"), (0.05, None)],
)
def test_points_under_the_roof(milliseconds, limit):
    """120 MFLOP forward at 200 GFLOP/s take 0.6 ms at best; a tenth of it is limited by what `indirect` does."""
    case = next(case for case in cases.load("conv") if case.name == "strided_128_56")
    entry = {
        "group": "conv",
        "case": case.name,
        "direction": "forward",
        "dtype": "float32",
        "libraries": {"numbacnn": {"seconds": milliseconds * 1e-3}, "torch": {"seconds": 1.0}},
    }
    (point,) = roofline.points({"entries": [entry], "peak": {"float32": [150.0, 200.0]}}, 20.0)
    moved = 4 * sum(math.prod(shape) for shape in (case.input_shape, case.weight_shape, case.output_shape))
    assert point.intensity == pytest.approx(case.work("forward", 4) / moved)
    assert point.attainable == pytest.approx(min(200.0, 20.0 * point.intensity))
    assert point.gflops == pytest.approx(case.work("forward", 4) / milliseconds / 1e6)
    if limit is None:
        assert point.share > 1
    else:
        assert limit in point.limit
        assert bool(limit) == bool(point.limit)


def test_growth_grows():
    series = growth.Series("length", (8, 80), (1, 4, 0), 3)
    small, large = growth.rows((series,))
    assert small[:2] == ["length", "8"]
    assert float(large[3]) == 10 * float(small[3]) == pytest.approx(2.0 * 80 * 4 * 4 * 3, rel=0.05)


def test_scaling_compares_one_thread_with_several(monkeypatch):
    before = nc.get_num_threads()
    small, large = cases.parse("small 1 2 8 -> 2 3 1 1 1 1\nlarge 1 8 40 -> 8 3 1 1 1 1")
    monkeypatch.setattr(scaling, "LARGE", 1e4)
    monkeypatch.setattr(scaling, "_ceiling", lambda threads: 1.9)
    try:
        table, line = scaling.rows([small, large], 2, rounds=1)
        assert scaling.rows([small], 2) == ([], "No convolution is large enough.")
    finally:
        nc.set_num_threads(before)
    assert sorted(row[:2] for row in table) == [["large", d] for d in ("backward_data", "backward_weight", "forward")]
    gains = [float(row[4]) for row in table]
    assert gains == sorted(gains)
    assert gains[0] == pytest.approx(float(table[0][2]) / float(table[0][3]), rel=0.05)
    assert "on 3 convolutions" in line
    assert line.endswith("gain 1.90.")


def test_performance_page(results, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "SERIES", ())
    monkeypatch.setattr(peak, "bandwidth", lambda threads: 20.0)
    monkeypatch.setattr(growth, "rows", lambda: [["N", "1", "indirect", "1", "1", "1", "0.0"]])
    monkeypatch.setattr(scaling, "rows", lambda cases, threads: ([["wide", "forward", "2", "1", "2.00"]], "Twice."))
    source = tmp_path / "compare.json"
    for entry in results["entries"]:
        entry["case"] = "resnet_64_56"
    source.write_text(json.dumps(results))
    performance.main([str(source), "--docs", str(tmp_path)])
    text = (tmp_path / "performance.md").read_text()
    assert "copy memory at 20.0 GB/s" in text
    assert "of 4 convolutions reach less than 70%" in text
    assert "| N | 1 | indirect | 1 | 1 | 1 | 0.0 |" in text
    assert "Twice." in text
    assert "| wide | forward | 2 | 1 | 2.00 |" in text
    assert (tmp_path / "performance.png").stat().st_size > 1000


def test_choice_is_fitted_to_what_was_measured(tmp_path, monkeypatch):
    """Times that follow from costs give these costs back; nothing is lost by choosing with them."""
    pytest.importorskip("scipy")

    def measure(direction, g, dtype, names, turns):
        other, winograd_time = winograd_choice.times(direction, g, winograd.passes(direction, g))
        double = 2 if dtype == np.float64 else 1
        return {name: double * 1e-6 * (winograd_time if name == "winograd" else other) for name in names}

    monkeypatch.setattr(choice.autotune, "measure", measure)
    monkeypatch.setattr(choice, "time", SimpleNamespace(perf_counter=itertools.count().__next__))  # a problem a second
    for seed in range(2):
        choice.measure(tmp_path / "samples", 100, seed)
    samples = choice.load(tmp_path / "samples")
    assert len(samples) > 150
    model = choice.fit(samples)
    for table, name in ((winograd_choice.OTHER, "data"), (winograd_choice.WINOGRAD, ("own weights", 2))):
        np.testing.assert_allclose({**model.OTHER, **model.WINOGRAD}[name], table[name], rtol=0.2, atol=5)
    weights = [s for s in samples if s.direction == "backward_weight"]  # the others are judged by two batches
    assert max(choice.losses(weights)) == 1
