"""The command line: train, eval, predict, info, warmup, cache.

Exit codes: 0 done, 1 it went wrong, 2 the request or its files are at fault (one line says how), 130 Ctrl-C.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from . import __version__
from .errors import NumbacnnError, OptionError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np

    from .train import Classifier
    from .train._recipe import Parts

DIGITS = "digits"


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    argv : sequence of str, optional
        Arguments without the program's name; those of the process by default.

    Returns
    -------
    int
        The exit code.

    Examples
    --------
    >>> from numbacnn.cli import main
    >>> main(["cache", "info"])  # doctest: +ELLIPSIS
    directory  ...
    0
    """
    arguments = _parser().parse_args(argv)
    try:
        if getattr(arguments, "threads", None) is not None:
            _set_threads(arguments.threads)
        with _choosing(getattr(arguments, "autotune", False)):
            return arguments.run(arguments)
    except BrokenPipeError:  # the reader, such as `head`, has gone: nobody is left to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (NumbacnnError, OSError) as error:
        named = isinstance(error, OSError) and error.filename is not None
        return _fail(f"{error.filename}: {error.strerror}" if named else str(error), 2)  # type: ignore[union-attr]
    except FloatingPointError as error:
        return _fail(str(error), 1)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)


def _set_threads(count: int) -> None:
    from .config import set_num_threads

    try:
        set_num_threads(count)
    except ValueError as error:
        raise OptionError(str(error)) from None


def _choosing(measured: bool) -> contextlib.AbstractContextManager[None]:
    """How convolution algorithms are chosen."""
    if not measured:
        return contextlib.nullcontext()
    from .ops.conv.autotune import autotune

    return autotune()


def _fail(message: str, code: int) -> int:
    print(f"numbacnn: {message}", file=sys.stderr)
    return code


# -- train, eval, predict ----------------------------------------------------------------------------------------------


def _train(arguments: argparse.Namespace) -> int:
    from .data import load_digits, load_npz
    from .train import _recipe

    if arguments.data is None:
        (x, y), name = load_digits(), DIGITS
    else:
        x, labels = load_npz(arguments.data, channels=arguments.channels, dtype=arguments.dtype)
        assert labels is not None
        y, name = labels, Path(arguments.data).name
    complete = 0

    def on_start(classifier: Classifier, parts: Parts) -> None:
        _describe(name, x, classifier, parts)

    def on_epoch(record: dict[str, float]) -> None:
        nonlocal complete
        complete = int(record["epoch"])
        print(
            f"epoch {complete:{len(str(arguments.epochs))}}/{arguments.epochs}"
            f"   loss {record['loss']:.4f}   accuracy {record['accuracy']:7.2%}"
            f"   validation loss {record['val_loss']:.4f}   accuracy {record['val_accuracy']:7.2%}"
            f"   {record['seconds']:.1f} s",
            flush=True,
        )

    folder = Path(arguments.output)
    try:
        result = _recipe.train_classifier(
            x,
            y,
            folder,
            epochs=arguments.epochs,
            batch_size=arguments.batch_size,
            lr=arguments.lr,
            seed=arguments.seed,
            dtype=arguments.dtype,
            notes={"data": name, "channels": arguments.channels, "seed": arguments.seed},
            on_start=on_start,
            on_epoch=on_epoch,
        )
    except KeyboardInterrupt:
        kept = f"{folder / _recipe.CHECKPOINT} holds epoch {complete}" if complete else "no epoch was complete"
        return _fail(f"interrupted; {kept}", 130)
    _print_score("test", result.test)
    written = [_recipe.CHECKPOINT, _recipe.METRICS]
    if _plot(folder / _recipe.PLOT, result):
        written.append(_recipe.PLOT)
    print(f"written to {folder}: {', '.join(written)}")
    return 0


def _describe(name: str, x: np.ndarray, classifier: Classifier, parts: Parts) -> None:
    from .config import get_num_threads

    parameters = sum(parameter.data.size for parameter in classifier.model.parameters())
    shape = " x ".join(str(extent) for extent in x.shape[2:])
    print(
        f"{name}: {len(x):,} samples of {x.shape[1]} x ({shape}), {len(classifier.classes)} classes;"
        f" {len(parts.x_train):,} to train, {len(parts.x_validation):,} to validate, {len(parts.x_test):,} to test"
    )
    print(f"network: {parameters:,} parameters, {classifier.dtype}, {get_num_threads()} threads", flush=True)


def _plot(path: Path, result: Any) -> bool:
    """Draw the run; False, with a note, where matplotlib is missing."""
    from .train import plot_training

    x, labels = result.parts.x_test, result.parts.y_test
    predicted, probabilities = result.classifier.predict(x)
    try:
        plot_training(path, result.history, x, labels, predicted, probabilities)
    except ImportError:
        print('no plot: matplotlib is not installed (pip install "numbacnn[train]")', file=sys.stderr)
        return False
    return True


def _print_score(name: str, score: dict[str, Any]) -> None:
    print(
        f"{name}: loss {score['loss']:.4f}, accuracy {score['accuracy']:.2%} "
        f"({score['correct']:,} of {score['samples']:,})"
    )


def _eval(arguments: argparse.Namespace) -> int:
    from .data import load_digits
    from .train import Classifier, split

    classifier = Classifier.load(arguments.checkpoint)
    if arguments.data is not None:
        x, y = _load_like(classifier, arguments, labels=True)
        assert y is not None
        _print_score(Path(arguments.data).name, classifier.score(x, y))
        return 0
    if classifier.notes.get("data") != DIGITS:
        raise OptionError(f"{arguments.checkpoint} was trained on {classifier.notes.get('data')}: say --data FILE.npz")
    parts = split(*load_digits(), classifier.notes["seed"])
    _print_score("test digits", classifier.score(parts.x_test, parts.y_test))
    return 0


def _predict(arguments: argparse.Namespace) -> int:
    import numpy as np

    from .train import Classifier

    output = None if arguments.output is None else Path(arguments.output)
    if output is not None and output.suffix not in (".csv", ".npz"):
        raise OptionError(f"--output must end in .csv or .npz, got {output}")
    classifier = Classifier.load(arguments.checkpoint)
    x, _ = _load_like(classifier, arguments, labels=False)
    labels, probabilities = classifier.predict(x)
    if output is not None and output.suffix == ".npz":
        np.savez(output, labels=labels, probabilities=probabilities, classes=classifier.classes)
        return 0
    rows = zip(labels, probabilities.max(axis=1), strict=True)
    lines = ["sample,label,probability", *(f"{i},{label},{p:.6f}" for i, (label, p) in enumerate(rows))]
    if output is None:
        print("\n".join(lines))
    else:
        output.write_text("\n".join(lines) + "\n")
    return 0


def _load_like(
    classifier: Classifier, arguments: argparse.Namespace, labels: bool
) -> tuple[np.ndarray, np.ndarray | None]:
    """The samples of --data, with the channel axis where the training data had it unless told otherwise."""
    from .data import load_npz

    channels = arguments.channels or classifier.notes.get("channels", "auto")
    return load_npz(arguments.data, channels=channels, dtype=classifier.dtype, labels=labels)


# -- info, warmup, cache -----------------------------------------------------------------------------------------------


def _info(arguments: argparse.Namespace) -> int:
    import platform

    from .kernels import _cache, _launch
    from .kernels._target import target

    machine = target()
    fma = "with" if machine.fma else "without"
    vectors = (
        f"{machine.isa}, {8 * machine.vector_bytes} bits: {machine.lanes(4)} float32 or {machine.lanes(8)} float64"
    )
    cache = _cache.info()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("numpy", "numba", "llvmlite"))
    rows = {
        "numbacnn": __version__,
        "python": f"{platform.python_version()} ({platform.system()} {platform.machine()}); {versions}",
        "processor": f"{machine.cpu} ({machine.triple})",
        "vectors": f"{vectors}, {fma} fused multiply-add",
        "threads": str(_launch.get_num_threads()),
        "driver": _launch.DEFAULT_DRIVER,
        "cache": f"{cache.directory}: {cache.files} kernels, {_size(cache.size_bytes)}, "
        + ("writable" if cache.writable else "not writable"),
    }
    _print_rows(rows)
    return 0


def _warmup(arguments: argparse.Namespace) -> int:
    from . import _warmup as warmup
    from ._progress import ProgressBar
    from .kernels import _cache, _launch

    if not _cache.info().writable:
        return _fail(f"the kernel cache {_cache.info().directory} is not writable; set NUMBACNN_CACHE_DIR", 1)
    with ProgressBar(len(warmup.tasks()), "compiling") as bar:
        done = warmup.warm_up(_launch.get_num_threads(), lambda task: bar.step(task.kernel.rpartition(".")[2]))
    for task, reason in done.failed:
        print(f"numbacnn: {task.kernel} {' '.join(task.binding)}: {reason}", file=sys.stderr)
    print(f"{done.total} kernels: {done.compiled} compiled now, {done.total - done.compiled - len(done.failed)} cached")
    return 1 if done.failed else 0


def _cache_command(arguments: argparse.Namespace) -> int:
    from .kernels import _cache
    from .ops.conv import measurements

    if arguments.action == "clear":
        print(
            f"{_cache.clear()} kernels and {measurements.clear()} measurements removed from {_cache.info().directory}"
        )
        return 0
    info = _cache.info()
    rows = {
        "directory": info.directory,
        "kernels": str(info.files),
        "measurements": str(measurements.count()),
        "size": _size(info.size_bytes),
        "writable": "yes" if info.writable else "no",
    }
    _print_rows(rows)
    return 0


def _print_rows(rows: dict[str, str]) -> None:
    width = max(map(len, rows)) + 2
    print("\n".join(f"{name:{width}}{value}" for name, value in rows.items()))


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"


# -- arguments ---------------------------------------------------------------------------------------------------------


class _Parser(argparse.ArgumentParser):
    """Errors in one line; argparse would print the whole usage first."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="numbacnn", description="Train and use convolutional networks.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"numbacnn {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, run: Any, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".", allow_abbrev=False)
        sub.set_defaults(run=run)
        return sub

    train = command("train", _train, "train a small network on the built-in digits or on your own arrays")
    _add_data(train, "samples x and labels y to train on, instead of the digits", "auto")
    train.add_argument("--output", default="numbacnn-run", metavar="DIR", help="where to write (default %(default)s)")
    train.add_argument("--epochs", type=_positive, default=10, help="passes over the data (default %(default)s)")
    train.add_argument("--batch-size", type=_positive, default=32, help="samples per step (default %(default)s)")
    train.add_argument("--lr", type=float, default=1e-3, help="learning rate of Adam (default %(default)s)")
    train.add_argument("--seed", type=int, default=0, help="of split, weights, order, dropout (default %(default)s)")
    train.add_argument("--dtype", choices=("float32", "float64"), default="float32", help="default %(default)s")

    evaluate = command("eval", _eval, "measure a trained network's accuracy")
    evaluate.add_argument("checkpoint", help="checkpoint.nc of a training run")
    _add_data(evaluate, "samples x and labels y (default: the digits it was not trained on)", None)

    predict = command("predict", _predict, "classify samples with a trained network")
    predict.add_argument("checkpoint", help="checkpoint.nc of a training run")
    _add_data(predict, "samples x", None, required=True)
    predict.add_argument("--output", metavar="FILE", help="FILE.csv or FILE.npz (default: CSV to standard output)")

    warmup = command("warmup", _warmup, "compile every kernel now, rather than when it is first needed")
    for sub in (train, evaluate, predict, warmup):
        sub.add_argument("--threads", type=_positive, metavar="N", help="cores to use (default: all allowed)")
    for sub in (train, evaluate, predict):
        sub.add_argument(
            "--autotune", action="store_true", help="measure convolution algorithms once and remember them"
        )
    command("info", _info, "show what numbacnn makes of this machine")
    cache = command("cache", _cache_command, "show or empty the cache of compiled kernels and measurements")
    cache.add_argument("action", choices=("info", "clear"))
    return parser


def _add_data(parser: argparse.ArgumentParser, text: str, channels: str | None, required: bool = False) -> None:
    parser.add_argument("--data", metavar="FILE.npz", required=required, help=text)
    parser.add_argument(
        "--channels",
        choices=("auto", "none", "first", "last"),
        default=channels,
        help="the axes of x after the first: none = spatial axes alone, first or last = where the channels are; auto = "
        "none for up to two axes, first for more" + ("" if channels else " (default: as in training)"),
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


_positive.__name__ = "number"  # argparse names the type in its message
