"""Checkpoints: exact round trips, refusals, damage, and writes that fail half-way."""

import json
import math
import os
import stat
import zipfile

import numpy as np
import pytest

import numbacnn as nc
from numbacnn import serialization
from numbacnn.errors import CheckpointError


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint"


def round_trip(state, path):
    nc.save(state, path)
    return nc.load(path)


def same_bits(a, b):
    return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


ARRAYS = [
    np.arange(12, dtype=np.float32).reshape(3, 4),
    np.arange(12.0).reshape(3, 4).T,
    np.arange(24.0).reshape(2, 3, 4)[::-1, :, ::2],
    np.array(3.5),
    np.zeros((0, 3), np.int8),
    np.array([np.nan, -np.nan, np.inf, -0.0]),
    np.array([0x7FC00001, 0xFFC00002], np.uint32).view(np.float32),  # NaN with payloads
    np.array([True, False]),
    np.array([1 + 2j]),
    np.array([1, 2], ">i2"),
    np.array(["text", "longer text"]),
    np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.float16([1.5]),
]


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_come_back_bit_by_bit(array, path):
    found = round_trip(array, path)
    assert same_bits(found, array)
    assert found.flags.writeable


@pytest.mark.parametrize(
    "state",
    [
        None,
        True,
        0,
        -(2**80),
        0.1,
        5e-324,
        -0.0,
        math.inf,
        "text with \u2013 and \U0001f600 and \x00",
        [],
        {},
        (),
        [1, [2.5, (None, "a", ())], {"b": [True]}],
        {1: "integer", "1": "string", 2.5: "float", None: 0, True and 7: 0, (1, "a"): "tuple"},
        {"dict": {"array": 1}, "tuple": [2]},  # keys that look like the index's own
    ],
    ids=repr,
)
def test_plain_values(state, path):
    found = round_trip(state, path)
    assert found == state
    assert repr(found) == repr(state)  # also int against float, and the sign of zero


def test_nan(path):
    assert math.isnan(round_trip([math.nan], path)[0])


def test_numpy_numbers(path):
    for number in (np.float32(0.1), np.int64(3), np.bool_(True), np.str_("a")):
        found = round_trip(number, path)
        assert type(found) is type(number)
        assert found == number


def test_tensors(path):
    state = {"tensor": nc.Tensor([1.0], requires_grad=True), "frozen": nc.Parameter([2.0], requires_grad=False)}
    found = round_trip({**state, "computed": state["tensor"] * 2}, path)
    assert type(found["tensor"]) is nc.Tensor
    assert found["tensor"].requires_grad
    assert type(found["frozen"]) is nc.Parameter
    assert not found["frozen"].requires_grad
    assert found["computed"].is_leaf
    assert not found["computed"].requires_grad
    assert found["computed"].tolist() == [2.0]


def test_a_model_resumes(path):
    net = nc.nn.Sequential(nc.nn.Conv1d(1, 2, 3), nc.nn.BatchNorm1d(2))
    nc.save({"model": net.state_dict(), "epoch": 3}, path)
    other = nc.nn.Sequential(nc.nn.Conv1d(1, 2, 3), nc.nn.BatchNorm1d(2))
    other.load_state_dict(nc.load(path)["model"])
    for key, array in net.state_dict().items():
        assert same_bits(other.state_dict()[key], array)


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"a": [1, object()]}, r"state\['a'\]\[1\] is a object, which cannot be saved"),
        ({"f": print}, r"state\['f'\] is a builtin_function_or_method"),
        ([{1, 2}], r"state\[0\] is a set"),
        (b"bytes", "state is a bytes"),
        (np.array([None]), "dtype object, which cannot be saved without pickle"),
        (np.ma.masked_array([1.0], [True]), "MaskedArray"),
        ({(1, np.ones(1).tobytes()): 0}, "bytes"),
        (1j, "complex"),
    ],
)
def test_what_cannot_be_saved(state, message, path):
    with pytest.raises(CheckpointError, match=message):
        nc.save(state, path)
    assert not list(path.parent.iterdir())


def test_cycles(path):
    state = []
    state.append(state)
    with pytest.raises(CheckpointError, match="nested too deeply, or contains itself"):
        nc.save(state, path)


# -------------------------------------------------------------------------------------------------------------- damage

STATE = {"weights": np.arange(1000.0), "bias": np.ones(3, np.float32), "epoch": 1}


@pytest.fixture
def good(path):
    nc.save(STATE, path)
    return path.read_bytes()


def refused(path, message="not a complete numbacnn checkpoint"):
    with pytest.raises(CheckpointError, match=message):
        nc.load(path)


def test_truncated_anywhere(path, good):
    for length in [0, 1, 10, *range(100, len(good), len(good) // 40), len(good) - 1]:
        path.write_bytes(good[:length])
        refused(path)


def test_flipped_bits_are_found_or_harmless(path, good):
    generator = np.random.default_rng(0)
    found = 0
    for position in generator.integers(0, len(good), 150):
        damaged = bytearray(good)
        damaged[position] ^= 1 << int(generator.integers(8))
        path.write_bytes(damaged)
        try:
            state = nc.load(path)
        except CheckpointError:
            found += 1
        else:  # a bit that nobody reads, such as a date
            assert same_bits(state["weights"], STATE["weights"])
            assert same_bits(state["bias"], STATE["bias"])
            assert state["epoch"] == 1
    assert found > 100


def test_other_files(path, tmp_path):
    for content in (b"", b"PK", b"text" * 100):
        path.write_bytes(content)
        refused(path)
    np.savez(tmp_path / "arrays.npz", a=np.ones(1))
    refused(tmp_path / "arrays.npz")
    with pytest.raises(FileNotFoundError):
        nc.load(tmp_path / "absent")
    with pytest.raises(OSError):
        nc.load(tmp_path)


def rewrite_index(path, change):
    index = json.loads(zipfile.ZipFile(path).read("index.json"))
    change(index)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("index.json", json.dumps(index))


@pytest.mark.parametrize("version", [2, 99])
def test_newer_version(path, good, version):
    rewrite_index(path, lambda index: index.update(version=version))
    refused(path, f"version {version}, this numbacnn reads up to 1; upgrade numbacnn")


@pytest.mark.parametrize("tree", [{"array": 7}, {"unknown": 1}, {"dict": 3}, {"float": "x"}, {}, {"array": "../x"}])
def test_nonsense_in_the_index(tree, path, good):
    rewrite_index(path, lambda index: index.update(tree=tree))
    refused(path)


def test_no_pickle_is_ever_read(path, good):
    class Evil:
        def __reduce__(self):
            return pytest.fail, ("code was run",)

    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("index.json", json.dumps({"format": "numbacnn", "version": 1, "tree": {"array": 0}}))
        with archive.open("arrays/0.npy", "w") as entry:
            np.lib.format.write_array(entry, np.array([Evil()], object))
    refused(path)


# ------------------------------------------------------------------------------------------------------ failing writes


@pytest.mark.parametrize("step", ["write_array", "fsync", "replace"])
def test_a_failed_write_leaves_the_old_file(step, path, good, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np.lib.format if step == "write_array" else os, step, fail)
    with pytest.raises(OSError, match="No space left"):
        nc.save({"weights": np.zeros(5)}, path)
    monkeypatch.undo()
    assert path.read_bytes() == good
    assert [entry.name for entry in path.parent.iterdir()] == ["checkpoint"]


def test_an_interrupt_leaves_the_old_file(path, good, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(np.lib.format, "write_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        nc.save(STATE, path)
    assert path.read_bytes() == good
    assert len(list(path.parent.iterdir())) == 1


def test_symbolic_links_are_followed(path, good):
    link = path.parent / "latest"
    try:
        link.symlink_to(path)
    except OSError:
        pytest.skip("no symbolic links here")
    nc.save({"epoch": 2}, link)
    assert link.is_symlink()
    assert nc.load(path) == {"epoch": 2}


@pytest.mark.skipif(os.name != "posix", reason="permissions are POSIX")
def test_permissions_follow_the_umask(path):
    old = os.umask(0o027)
    try:
        nc.save(1, path)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_missing_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        nc.save(1, tmp_path / "absent" / "checkpoint")


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nc.save([1], "here")
    assert nc.load("here") == [1]


def test_public_names():
    assert serialization.__all__ == ["load", "save"]
