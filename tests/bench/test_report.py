"""Reports say what was measured."""

import json

import pytest

from bench import cases, compare, report
from tests.bench.small import SMALL, make_entry


def test_summary(results):
    forward, backward = report.summary(results["entries"])
    assert forward == ["conv", "forward", "float32", "torch", "2", "**1.00**", "0.50", "b", "2.00", "1/2"]
    assert backward[1:6] == ["backward_data", "float32", "torch", "1", "**1.00**"]


def test_one_and_three_axes_are_summed_up_apart(results):
    for entry, axes in zip(results["entries"], (2, 2, 3, 1), strict=True):
        entry["axes"] = axes
    rows = report.summary(results["entries"])
    assert [row[:2] for row in rows] == [
        ["conv", "forward"],
        ["conv, 1-D and 3-D", "forward"],
        ["conv", "backward_data"],
    ]
    assert rows[1][4:] == ["1", "**0.50**", "0.50", "b", "0.50", "0/1"]
    for entry in results["entries"]:
        entry["axes"] = 3
    assert len(report.summary(results["entries"])) == 2


def test_shares_are_of_what_limits(results):
    """Arithmetic by the best peak, what only moves memory by the best bandwidth."""
    moving = make_entry("d", 1e-3, 1e-3) | {"group": "norm", "unit": "GB/s"}
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
    disturbed = f"{entry['case']} {entry['direction']} {entry['dtype']}"
    assert "Other processes took 2% of the processors' time (median over the cases)" in text
    assert f"; over 5% in 1 of 4, **not to be relied on**: {disturbed}." in text


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
    rendered = ["--from", str(output.with_suffix(".json")), "--output", str(tmp_path / "new" / "again"), "--print"]
    assert compare.main(rendered) == 0
    assert capsys.readouterr().out.strip() == written.strip()
