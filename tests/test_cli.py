"""The command line, mostly inside this process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

import numbacnn
from numbacnn.cli import main
from numbacnn.ops.conv import measurements
from numbacnn.train import Classifier
from tests.ops.conv.plans import forget_plans


def run(*arguments):
    """Exit code of a command, whichever way it ends."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return end.code


@pytest.fixture(scope="module")
def signals(tmp_path_factory):
    """An .npz file of two-channel signals of two classes, 7 and 9, channels last."""
    rng = np.random.default_rng(0)
    y = np.tile([7, 9], 30)
    x = rng.normal(0, 0.1, (60, 20, 2))
    x[:, :, 0] += (y == 9)[:, None]
    path = tmp_path_factory.mktemp("data") / "signals.npz"
    np.savez(path, x=x, y=y)
    return path


@pytest.fixture(scope="module")
def trained(signals, tmp_path_factory):
    """Folder of a run on the signals."""
    folder = tmp_path_factory.mktemp("run")
    options = ["--channels", "last", "--epochs", "4", "--batch-size", "8", "--lr", "0.005", "--output", folder]
    assert run("train", "--data", signals, *options) == 0
    return folder


def test_training_writes_its_files(trained):
    names = {"checkpoint.nc", "metrics.json"}
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        pass
    else:
        names.add("training.png")
    assert {path.name for path in trained.iterdir()} == names
    report = json.loads((trained / "metrics.json").read_text())
    assert len(report["history"]) == 4
    assert report["test"]["accuracy"] == 1
    classifier = Classifier.load(trained / "checkpoint.nc")
    assert classifier.input_shape == (2, 20)
    assert classifier.notes["channels"] == "last"


def test_the_default_run_learns_the_digits(tmp_path):
    """What the README promises: no options, and at least 98 % of the test samples are right."""
    assert run("train", "--output", tmp_path / "run") == 0
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert metrics["test"]["samples"] == 359
    assert metrics["test"]["accuracy"] >= 0.98
    assert (tmp_path / "run" / "training.png").stat().st_size > 10_000


def test_training_prints_what_happens(signals, tmp_path, capsys):
    assert run("train", "--data", signals, "--channels", "last", "--epochs", 2, "--output", tmp_path / "run") == 0
    out = capsys.readouterr().out
    assert "signals.npz: 60 samples of 2 x (20), 2 classes; 43 to train, 5 to validate, 12 to test" in out
    assert "epoch 1/2   loss " in out
    assert "epoch 2/2   loss " in out
    assert "test: loss " in out
    assert f"written to {tmp_path / 'run'}: checkpoint.nc, metrics.json" in out


def test_eval_reads_channels_from_the_checkpoint(trained, signals, capsys):
    assert run("eval", trained / "checkpoint.nc", "--data", signals) == 0
    assert "signals.npz: loss " in capsys.readouterr().out


def test_autotune(trained, signals, tmp_path, monkeypatch):
    monkeypatch.setattr(measurements, "directory", lambda: tmp_path)
    forget_plans()
    command = ["eval", trained / "checkpoint.nc", "--data", signals]
    assert run(*command) == 0
    assert measurements.count() == 0
    assert run(*command, "--autotune") == 0
    assert measurements.count() > 0
    forget_plans()


def test_predict_in_all_its_forms(trained, signals, tmp_path, capsys):
    x, y = np.load(signals)["x"], np.load(signals)["y"]
    np.savez(tmp_path / "new.npz", x=x[:5])
    command = ["predict", trained / "checkpoint.nc", "--data", tmp_path / "new.npz"]
    assert run(*command) == 0
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "sample,label,probability"
    assert [int(line.split(",")[1]) for line in printed[1:]] == y[:5].tolist()
    assert run(*command, "--output", tmp_path / "out.csv") == 0
    assert (tmp_path / "out.csv").read_text().splitlines() == printed
    assert run(*command, "--output", tmp_path / "out.npz") == 0
    with np.load(tmp_path / "out.npz") as saved:
        assert saved["labels"].tolist() == y[:5].tolist()
        assert saved["classes"].tolist() == [7, 9]
        assert saved["probabilities"].shape == (5, 2)


def test_a_float64_run(signals, tmp_path):
    options = ["--dtype", "float64", "--channels", "last", "--epochs", "1", "--output", tmp_path]
    assert run("train", "--data", signals, *options) == 0
    assert Classifier.load(tmp_path / "checkpoint.nc").dtype == np.float64


def test_threads_option_is_obeyed_and_changes_no_result(signals, tmp_path, capsys):
    before = numbacnn.get_num_threads()
    losses = []
    try:
        for threads in (1, 3):
            options = ["--threads", threads, "--channels", "last", "--epochs", "2", "--output", tmp_path]
            assert run("train", "--data", signals, *options) == 0
            assert f", {threads} threads" in capsys.readouterr().out
            losses.append([record["loss"] for record in json.loads((tmp_path / "metrics.json").read_text())["history"]])
    finally:
        numbacnn.set_num_threads(before)
    assert losses[0] == losses[1]


def test_without_matplotlib_there_is_no_plot_but_a_note(signals, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    assert run("train", "--data", signals, "--channels", "last", "--epochs", 1, "--output", tmp_path) == 0
    assert "matplotlib is not installed" in capsys.readouterr().err
    assert not (tmp_path / "training.png").exists()


def test_a_run_that_diverges_ends_with_one(signals, tmp_path, capsys):
    options = ["--channels", "last", "--lr", "1e30", "--epochs", "3", "--output", tmp_path]
    with np.errstate(all="ignore"):
        assert run("train", "--data", signals, *options) == 1
    assert "try a smaller learning rate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "--data", "nowhere.npz"], "nowhere.npz: No such file or directory"),
        (["eval", "nowhere.nc"], "nowhere.nc: No such file or directory"),
        (["train", "--lr", "-1"], "the learning rate must be positive"),
        (["predict", "x.nc", "--data", "y.npz", "--output", "z.txt"], "--output must end in .csv or .npz, got z.txt"),
        (["train", "--epochs", "0"], "argument --epochs: must be at least 1, got 0"),
        (["train", "--epochs", "many"], "argument --epochs: invalid number value: 'many'"),
        (["train", "--dtype", "float16"], "argument --dtype: invalid choice: 'float16'"),
        (["train", "--threads", "1000"], "number of threads must be from 1 to 256, got 1000"),
        (["train", "--bogus"], "unrecognized arguments: --bogus"),
        (["train", "--epoch", "3"], "unrecognized arguments: --epoch 3"),
        (["predict", "x.nc"], "the following arguments are required: --data"),
        (["cache", "burn"], "invalid choice: 'burn'"),
        (["fly"], "invalid choice: 'fly'"),
        ([], "the following arguments are required: COMMAND"),
    ],
)
def test_bad_requests_get_one_line_and_exit_code_two(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1
    assert printed.err.startswith("numbacnn")
    assert printed.out == ""
    assert not list(tmp_path.iterdir())


def test_unfit_files_get_one_line_and_exit_code_two(trained, signals, tmp_path, capsys):
    text = tmp_path / "text.npz"
    text.write_text("hello")
    other = tmp_path / "other.npz"
    np.savez(other, x=np.zeros((3, 9, 2)), y=[7, 9, 7])
    unlabelled = tmp_path / "unlabelled.npz"
    np.savez(unlabelled, x=np.zeros((1, 20, 2)))
    unknown = tmp_path / "unknown.npz"
    np.savez(unknown, x=np.zeros((2, 20, 2)), y=[7, 8])
    checkpoint = trained / "checkpoint.nc"
    for arguments, message in (
        (["train", "--data", text], "not a readable .npz file"),
        (["eval", text], "is not a complete numbacnn checkpoint"),
        (["eval", checkpoint], "was trained on signals.npz: say --data FILE.npz"),
        (["eval", checkpoint, "--data", other], "takes samples of shape (2, 20), got (2, 9)"),
        (["eval", checkpoint, "--data", unlabelled], "arrays named x and y expected, found x"),
        (["eval", checkpoint, "--data", unknown], "label 8 is not among the classes"),
        (["train", "--data", signals, "--output", text], "text.npz: File exists"),
    ):
        assert run(*arguments) == 2
        printed = capsys.readouterr().err
        assert message in printed
        assert printed.count("\n") == 1


def test_version_and_help(capsys):
    assert run("--version") == 0
    assert capsys.readouterr().out == f"numbacnn {numbacnn.__version__}\n"
    assert run("train", "--help") == 0
    assert "--batch-size" in capsys.readouterr().out


def test_info(capsys):
    assert run("info") == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert set(rows) == {"numbacnn", "python", "processor", "vectors", "threads", "driver", "cache"}
    assert rows["numbacnn"] == numbacnn.__version__
    assert int(rows["threads"]) == numbacnn.get_num_threads()
    assert "float32" in rows["vectors"]


def test_cache_info_and_clear(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("NUMBACNN_CACHE_DIR", str(tmp_path))
    (tmp_path / "a.nck").write_bytes(bytes(2000))
    (tmp_path / "b.times.json").write_bytes(bytes(100))
    (tmp_path / "not ours.txt").write_text("stays")
    assert run("cache", "info") == 0
    rows = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert rows == {
        "directory": str(tmp_path),
        "kernels": "1",
        "measurements": "1",
        "size": "2.0 kB",
        "writable": "yes",
    }
    assert run("cache", "clear") == 0
    assert capsys.readouterr().out == f"1 kernels and 1 measurements removed from {tmp_path}\n"
    assert [path.name for path in tmp_path.iterdir()] == ["not ours.txt"]


def test_python_dash_m():
    command = [sys.executable, "-m", "numbacnn", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"numbacnn {numbacnn.__version__}\n"


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent as a POSIX signal")
def test_ctrl_c_keeps_the_last_good_checkpoint(signals, tmp_path):
    command = [sys.executable, "-m", "numbacnn", "train", "--data", str(signals), "--channels", "last"]
    command += ["--epochs", "100000", "--output", str(tmp_path)]
    # Where Ctrl-C is ignored, as in a shell's background jobs, a child would ignore it, too.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        training = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    finally:
        signal.signal(signal.SIGINT, before)
    with training as process:
        for line in process.stdout:
            if line.startswith("epoch      3/"):
                process.send_signal(signal.SIGINT)
                break
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "interrupted; " in errors
    assert "Traceback" not in errors
    epoch = Classifier.load(tmp_path / "checkpoint.nc").notes["epoch"]
    assert f"{tmp_path / 'checkpoint.nc'} holds epoch {epoch}" in errors
    assert epoch >= 3
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.nc"]
