"""Measured choices: made once, remembered on disk, and what happens when that holds something else."""

import json
import threading

import numpy as np
import pytest

import numbacnn as nc
from numbacnn.errors import DTypeError, MeasurementWarning
from numbacnn.ops import conv_backward_data, conv_backward_weight, conv_forward, explain
from numbacnn.ops.conv import autotune, measurements
from tests.bits import assert_same_bits
from tests.ops.conv.plans import forget_plans

SHAPES = (1, 16, 9, 9), (24, 16, 3, 3)


@pytest.fixture(autouse=True)
def directory(tmp_path, monkeypatch):
    """An empty directory, and a process that remembers nothing."""
    monkeypatch.setattr(measurements, "directory", lambda: tmp_path)
    forget_plans()
    yield tmp_path
    forget_plans()


@pytest.fixture
def measured(monkeypatch):
    """Problems measured, for times of the test's own."""
    times = {"winograd": 0.003, "indirect": 0.002, "fft": 0.004, "patches": 0.003}
    times |= {"lane_sums": 0.008, "turned": 0.007, "row_runs": 0.005, "col2im": 0.006}
    problems = []

    def measure(direction, g, dtype, names):
        problems.append((direction, g, dtype, tuple(names)))
        return {name: times[name] for name in names}

    monkeypatch.setattr(autotune, "measure", measure)
    return problems


def test_the_fastest_is_chosen_and_the_others_say_why_not(measured):
    assert explain(*SHAPES).measured is False
    with nc.autotune():
        choice = explain(*SHAPES)
    assert choice.measured is True
    assert str(choice) == (
        "forward: indirect (measured)\n"
        "  not pointwise: the kernel has 9 taps\n"
        "  not fft: it was measured to take 2.00 times as long\n"
        "  not periods: groups have 16 input and 24 output channels, not one each\n"
        "  not depthwise: groups have 16 input and 24 output channels, not one each\n"
        "  not grouped: all channels are in one group\n"
        "  not strips: all channels are in one group\n"
        "  not winograd: it was measured to take 1.50 times as long\n"
        "  not patches: it was measured to take 1.50 times as long\n"
        "  not turned: it is for data gradients\n"
        "  not lane_sums: it is for data gradients\n"
        "  not row_runs: it was measured to take 2.50 times as long\n"
        "  not col2im: it is for data gradients"
    )


def test_later_processes_find_what_was_measured(measured, directory):
    with nc.autotune():
        first = explain(*SHAPES)
        for _ in range(2):
            forget_plans()  # as in another process
            assert explain(*SHAPES) == first
    assert len(measured) == 1
    assert measurements.count() == len(list(directory.iterdir())) == 1
    assert measurements.clear() == 1
    assert measurements.count() == 0


def test_without_a_disk_the_process_remembers(measured, monkeypatch, directory):
    for place in (None, directory / "file" / "folder"):
        (directory / "file").touch()
        monkeypatch.setattr(measurements, "directory", lambda place=place: place)
        forget_plans()
        measured.clear()
        with nc.autotune():
            assert explain(*SHAPES) == explain((3, *SHAPES[0][1:]), SHAPES[1])._replace(
                geometry=explain(*SHAPES).geometry
            )
        assert len(measured) == 1
        assert measurements.count() == 0
        assert measurements.clear() == 0


def test_a_batch_has_the_bits_of_its_samples(measured):
    batch = (5, *SHAPES[0][1:]), SHAPES[1]
    with nc.autotune():
        for direction in ("forward", "backward_data", "backward_weight"):
            assert explain(*SHAPES, direction=direction).algorithm == "indirect"
            assert explain(*batch, direction=direction).algorithm == "indirect"
    assert [(direction, g.batch) for direction, g, *_ in measured] == [
        ("forward", 1),
        ("backward_data", 1),
        ("backward_weight", 1),
        ("backward_weight", 5),
    ]


def test_a_problem_is_measured_once_whatever_the_precision(measured):
    with nc.autotune():
        with nc.precision("exact"):
            assert dict(explain(*SHAPES).refused)["winograd"] == "precision is 'exact'"
        assert "measured" in dict(explain(*SHAPES).refused)["winograd"]
    assert len(measured) == 1


def test_each_dtype_is_measured(measured):
    with nc.autotune():
        explain(*SHAPES)
        explain(*SHAPES, dtype="float64")
    assert [dtype for _, _, dtype, _ in measured] == ["float32", "float64"]
    with pytest.raises(DTypeError, match="dtype"):
        explain(*SHAPES, dtype=int)


def test_who_did_not_take_the_first_of_a_kind_is_out(measured, directory):
    with nc.autotune():
        explain(*SHAPES)
        path = next(directory.iterdir())
        record = json.loads(path.read_text())
        record["seconds"] = {"winograd": 1.0}
        path.write_text(json.dumps(record))
        forget_plans()
        choice = explain(*SHAPES)
        assert choice.algorithm == "winograd"
        assert dict(choice.refused)["indirect"].startswith("it did not take the first problem of this kind")


# ------------------------------------------------------------------------------------------------ what lies on the disk


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: b"",
        lambda record: json.dumps(record).encode()[:-20],
        lambda record: b"\xff\xfe",
        lambda record: b"[" * 100_000,
        lambda record: b"[]",
        lambda record: json.dumps({**record, "numbacnn": "0.0.1"}).encode(),
        lambda record: json.dumps({**record, "processor": "i386"}).encode(),
        lambda record: json.dumps({**record, "problem": "another"}).encode(),
        lambda record: json.dumps({**record, "more": 1}).encode(),
        lambda record: json.dumps({**record, "seconds": {}}).encode(),
        lambda record: json.dumps({**record, "seconds": [1.0]}).encode(),
        lambda record: json.dumps({**record, "seconds": {"indirect": "quick"}}).encode(),
        lambda record: json.dumps({**record, "seconds": {"indirect": -1.0}}).encode(),
        lambda record: json.dumps({**record, "seconds": {"indirect": float("nan")}}).encode(),
        lambda record: json.dumps({**record, "seconds": {"indirect": True}}).encode(),
    ],
)
def test_spoilt_files_are_measured_again(measured, directory, spoil):
    with nc.autotune():
        choice = explain(*SHAPES)
        path = next(directory.iterdir())
        good = path.read_bytes()
        path.write_bytes(spoil(json.loads(good)))
        forget_plans()
        with pytest.warns(MeasurementWarning, match=r"\.times\.json does not hold times of convolution algorithms \("):
            assert explain(*SHAPES) == choice
        assert path.read_bytes() == good
        forget_plans()
        assert explain(*SHAPES) == choice
    assert len(measured) == 2


def test_times_of_unknown_algorithms_are_no_times(measured, directory):
    with nc.autotune():
        choice = explain(*SHAPES)
        path = next(directory.iterdir())
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "seconds": {"magic": 1e-9}}))
        forget_plans()
        assert explain(*SHAPES) == choice


def test_file_says_what_it_holds_for(measured, directory):
    with nc.autotune():
        explain(*SHAPES)
    record = json.loads(next(directory.iterdir()).read_text())
    assert list(record) == ["numbacnn", "processor", "features", "problem", "seconds"]
    assert record["numbacnn"] == nc.__version__
    assert record["problem"].startswith("forward float32 rank=2 batch=0 in_channels=16 out_channels=24")


# --------------------------------------------------------------------------------------------------------------- scope


def test_scope(measured):
    with nc.autotune():
        with nc.autotune(False):
            assert not explain(*SHAPES).measured
        assert explain(*SHAPES).measured
        assert not explain(*SHAPES, algorithm="winograd").measured
        elsewhere = []
        thread = threading.Thread(target=lambda: elsewhere.append(explain(*SHAPES).measured))
        thread.start()
        thread.join()
        assert elsewhere == [False]
    assert not explain(*SHAPES).measured
    assert nc.autotune()(explain)(*SHAPES).measured


def test_an_empty_batch_is_not_measured(measured):
    with nc.autotune():
        assert not explain((0, 16, 9, 9), SHAPES[1]).measured
    assert measured == []


# ------------------------------------------------------------------------------------------------------ really measured


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("x_shape", "weight_shape", "options"),
    [
        ((2, 16, 9, 10), (24, 16, 3, 3), {"padding": 1}),
        ((1, 16, 40), (16, 1, 5), {"groups": 16}),
        ((1, 8, 4, 5, 6), (16, 8, 3, 1, 1), {"stride": 2}),
    ],
)
def test_results_are_those_of_the_algorithm_chosen(x_shape, weight_shape, options, dtype):
    generator = np.random.default_rng(0)
    x, weight = (generator.standard_normal(shape).astype(dtype) for shape in (x_shape, weight_shape))
    grad = generator.standard_normal(conv_forward(x, weight, **options).shape).astype(dtype)
    calls = {
        "forward": lambda **more: conv_forward(x, weight, **options, **more),
        "backward_data": lambda **more: conv_backward_data(grad, weight, x.shape, **options, **more),
        "backward_weight": lambda **more: conv_backward_weight(grad, x, weight.shape, **options, **more),
    }
    for direction, call in calls.items():
        with nc.autotune():
            got = call()
            choice = explain(x.shape, weight.shape, direction=direction, dtype=dtype, **options)
        assert choice.measured
        assert got.tobytes() == call(algorithm=choice.algorithm).tobytes()


def test_same_bits_on_any_threads():
    generator = np.random.default_rng(1)
    x, weight = (generator.standard_normal(shape).astype(np.float32) for shape in ((2, 32, 20, 20), (32, 32, 3, 3)))
    with nc.autotune():
        assert_same_bits(lambda: (conv_forward(x, weight), conv_backward_weight(x[:, :, 1:-1, 1:-1], x, weight.shape)))
