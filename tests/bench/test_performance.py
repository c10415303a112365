"""The performance page: roofline, growth, scaling."""

import json
import math

import pytest

import numbacnn as nc
from bench import cases, dilation, growth, peak, performance, roofline, scaling, streams
from tests.bench.small import make_entry


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


def test_large_arrays_beside_the_bandwidth():
    """Those that caches may hold are left out; the library that comes nearest is named."""

    def entry(name, seconds, megabytes, ratios):
        rate = megabytes / seconds / 1e3
        timing = {"seconds": seconds, "rate": rate, "share_of_peak": rate / 50}
        return make_entry(name, 1, 1) | {
            "unit": "GB/s",
            "libraries": {"numbacnn": timing},
            "ratios": {library: {"ratio": ratio} for library, ratio in ratios.items()},
        }

    large = entry("large", 2e-3, 80, {"torch": 1.5, "numpy": 1.25})
    slow, small = entry("slow", 2e-3, 50, {}), entry("small", 1e-6, 0.1, {})
    conv = make_entry("conv", 1, 1)
    table, line = streams.rows([{"entries": [large, conv]}, {"entries": [small, slow]}])
    assert [row[0] for row in table] == ["slow", "large"]
    assert [row[4:] for row in table] == [
        ["50", "2", "25", "50%", "", ""],
        ["80", "2", "40", "80%", "numpy", "**1.25**"],
    ]
    assert "Of 2 cases that move 48 MB and more, 1 reach 70% of it." in line


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


def test_dense_twin_keeps_the_size_of_the_result():
    for case in cases.load("dilated"):
        twin = dilation.dense(case)
        assert set(twin.dilation) == {1}
        lost = [a - b for a, b in zip(case.output_shape, twin.output_shape, strict=True)]
        assert lost[:2] == [0, 0]
        assert set(map(abs, lost)) <= {0, 1}


def test_dilation_compares_time_per_operation():
    before = nc.get_num_threads()
    (case,) = cases.parse("wide 1 8 40 -> 8 3 1 4 4 1")
    try:
        table, line = dilation.rows([case], 2, rounds=1)
    finally:
        nc.set_num_threads(before)
    assert sorted(row[:2] for row in table) == [["wide", d] for d in ("backward_data", "backward_weight", "forward")]
    ratios = [float(row[4]) for row in table]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[0] == pytest.approx(float(table[0][2]) / float(table[0][3]), rel=0.05)
    assert f"{sum(ratio <= dilation.SAME for ratio in ratios)} of 3 dilated convolutions" in line


def test_performance_page(results, tmp_path, monkeypatch):
    monkeypatch.setattr(growth, "SERIES", ())
    monkeypatch.setattr(peak, "bandwidth", lambda threads: 20.0)
    monkeypatch.setattr(growth, "rows", lambda: [["N", "1", "indirect", "1", "1", "1", "0.0"]])
    monkeypatch.setattr(scaling, "rows", lambda cases, threads: ([["wide", "forward", "2", "1", "2.00"]], "Twice."))
    monkeypatch.setattr(dilation, "rows", lambda cases, threads: ([["far", "forward", "3", "2", "1.50"]], "All."))
    source = tmp_path / "compare.json"
    for entry in results["entries"]:
        entry["case"] = "resnet_64_56"
    source.write_text(json.dumps(results))
    performance.main([str(source), "--docs", str(tmp_path), "--name", "here"])
    text = (tmp_path / "here.md").read_text()
    assert text.startswith(f"# Performance: {results['machine']['cpu']}\n")
    assert "](here.png)" in text
    assert text.index("| case") < text.index("Measured on 2024-02-03 04:05") < text.index("copy memory at 20.0 GB/s")
    assert "of 4 convolutions reach less than 70%" in text
    assert "| N | 1 | indirect | 1 | 1 | 1 | 0.0 |" in text
    assert "Of 0 cases that move 48 MB" in text
    assert "Twice." in text
    assert "| wide | forward | 2 | 1 | 2.00 |" in text
    assert "All." in text
    assert "| far | forward | 3 | 2 | 1.50 |" in text
    assert (tmp_path / "here.png").stat().st_size > 1000
