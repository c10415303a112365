"""Compiling kernels ahead of time. Compiling all of them takes too long for a test; a few stand for the rest."""

from __future__ import annotations

import pytest

from numbacnn import _warmup
from numbacnn.cli import main
from numbacnn.kernels import _build, _cache


def test_every_kernel_and_binding_is_a_task():
    tasks = _warmup.tasks()
    assert len(set(tasks)) == len(tasks)
    found = _warmup._kernels()
    ours = [kernel for kernel in _build.registry() if kernel.name.startswith("numbacnn.kernels.")]
    assert len(ours) > 10
    assert sorted(map(id, found.values())) == sorted(map(id, ours))
    for task in tasks:
        assert task.binding in list(found[task.kernel, task.occurrence].bindings())


@pytest.fixture
def few(tmp_path, monkeypatch):
    """An empty cache, and two kernels to fill it with."""
    monkeypatch.setenv("NUMBACNN_CACHE_DIR", str(tmp_path / "cache"))
    tasks = [task for task in _warmup.tasks() if task.kernel.startswith("numbacnn.kernels.layout.")][:2]
    monkeypatch.setattr(_warmup, "tasks", lambda: tasks)
    return tasks


def test_kernels_are_compiled_into_the_cache_once(few, capsys):
    done = []
    result = _warmup.warm_up(2, done.append)
    assert sorted(done) == sorted(few)
    assert result == (2, _cache.info().files, [])
    assert main(["warmup", "--threads", "1"]) == 0
    assert capsys.readouterr().out == "2 kernels: 0 compiled now, 2 cached\n"


def test_failures_are_reported(few, capsys):
    few[0] = few[0]._replace(binding=("complex64",))
    assert main(["warmup"]) == 1
    printed = capsys.readouterr()
    assert "complex64" in printed.err
    assert "2 kernels: " in printed.out


def test_a_cache_that_cannot_be_written_is_an_error(few, monkeypatch, capsys):
    monkeypatch.setattr(_cache, "info", lambda: _cache.CacheInfo("/nowhere", 0, 0, False))
    assert main(["warmup"]) == 1
    assert "the kernel cache /nowhere is not writable; set NUMBACNN_CACHE_DIR" in capsys.readouterr().err
