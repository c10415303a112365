"""Reading labelled arrays from .npz files."""

from __future__ import annotations

import numpy as np
import pytest

from numbacnn.data import load_npz
from numbacnn.errors import DTypeError, NumbacnnError, OptionError, ShapeError


@pytest.fixture
def save(tmp_path):
    def write(**arrays):
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        return path

    return write


@pytest.mark.parametrize(
    ("shape", "channels", "expected"),
    [
        ((6, 9), "auto", (6, 1, 9)),
        ((6, 9, 8), "auto", (6, 1, 9, 8)),
        ((6, 3, 9, 8), "auto", (6, 3, 9, 8)),
        ((6, 3, 9, 8, 7), "auto", (6, 3, 9, 8, 7)),
        ((6, 3, 9), "first", (6, 3, 9)),
        ((6, 9, 3), "last", (6, 3, 9)),
        ((6, 9, 8, 3), "last", (6, 3, 9, 8)),
        ((6, 9, 8, 7), "none", (6, 1, 9, 8, 7)),
        ((6, 9, 8, 7, 3), "last", (6, 3, 9, 8, 7)),
    ],
)
def test_channel_axis(save, shape, channels, expected):
    values = np.arange(np.prod(shape)).reshape(shape)
    x, y = load_npz(save(x=values, y=np.arange(6)), channels=channels)
    assert x.shape == expected
    assert x.dtype == np.float32
    assert y.dtype == np.int64
    original = np.moveaxis(x, 1, -1) if channels == "last" else x
    np.testing.assert_array_equal(original.reshape(shape), values)


def test_labels_are_optional_where_allowed(save):
    x, y = load_npz(save(x=np.zeros((2, 5), np.uint8)), labels=False, dtype=np.float64)
    assert x.dtype == np.float64
    assert y is None


@pytest.mark.parametrize(
    ("arrays", "options", "error", "message"),
    [
        ({"a": [1], "b": [2]}, {}, OptionError, "arrays named x and y expected, found a, b"),
        ({"y": [1]}, {"labels": False}, OptionError, "an array named x expected, found y"),
        ({"x": np.zeros((2, 3))}, {}, OptionError, "arrays named x and y expected, found x"),
        ({"x": np.array([["a", "b"]]), "y": [0]}, {}, DTypeError, "x must hold real numbers, got dtype <U1"),
        ({"x": np.zeros((2, 3), complex), "y": [0, 1]}, {}, DTypeError, "x must hold real numbers"),
        ({"x": np.array([[None]]), "y": [0]}, {}, OptionError, "not a readable .npz file of numbers"),
        ({"x": np.zeros(3), "y": [0, 1, 0]}, {}, ShapeError, r"x must be \(N, \*spatial\).*got shape \(3,\)"),
        ({"x": np.zeros((0, 3)), "y": []}, {}, ShapeError, r"got shape \(0, 3\)"),
        ({"x": np.zeros((2,) * 6), "y": [0, 1]}, {}, ShapeError, "1 to 3 spatial axes"),
        ({"x": np.zeros((2, 3)), "y": [0, 1]}, {"channels": "first"}, ShapeError, "has 0 spatial axes"),
        ({"x": np.zeros((2,) * 5), "y": [0, 1]}, {"channels": "none"}, ShapeError, "has 4 spatial axes"),
        ({"x": np.zeros((2, 3)), "y": [0, 1]}, {"channels": "both"}, OptionError, "got 'both'"),
        ({"x": [[1, np.nan, np.inf]], "y": [0]}, {}, OptionError, "x has 2 values that are NaN or infinite"),
        ({"x": [[1e39]], "y": [0]}, {}, OptionError, "x has 1 values that are NaN or infinite in float32"),
        ({"x": np.zeros((2, 3)), "y": [0.0, 1.0]}, {}, DTypeError, "integer labels, got dtype float64"),
        ({"x": np.zeros((2, 3)), "y": [0, 1, 2]}, {}, ShapeError, r"shape \(2,\), got \(3,\)"),
    ],
)
def test_unfit_arrays(save, arrays, options, error, message):
    with pytest.raises(error, match=message):
        load_npz(save(**arrays), **options)


def test_missing_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_npz(tmp_path / "none.npz")


def test_files_that_are_not_npz(tmp_path, save):
    whole = save(x=np.zeros((20, 30)), y=np.zeros(20, int)).read_bytes()
    damaged = bytearray(whole)
    damaged[200:260] = b"\xff" * 60
    single = tmp_path / "single.npy"
    np.save(single, np.zeros(3))
    contents = {"text": b"hello", "empty": b"", "torn": whole[: len(whole) // 2], "damaged": bytes(damaged)}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    for name in [*contents, "single.npy"]:
        with pytest.raises(NumbacnnError, match="not a readable .npz file"):
            load_npz(tmp_path / name)
