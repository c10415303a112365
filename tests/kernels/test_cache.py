"""Machine code on disk: what decides the key, what counts as absent, and that the disk never makes anything fail."""

from __future__ import annotations

import errno
import importlib.util
import os
import sys

import pytest

from numbacnn.kernels import _build, _cache
from tests.kernels.fresh import finish, run_python, start_python

WORK = """
import sys
from numbacnn.kernels import _launch
from tests.kernels.fresh import work
with _launch.threads(2):
    work()
print("numba" in sys.modules)
"""


def function(x):
    return x + 1


@pytest.fixture
def compiled(tmp_path, monkeypatch):
    """An empty cache and no linker: returns a function that loads and says whether it had to compile."""
    monkeypatch.setenv("NUMBACNN_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(_cache, "_link", lambda symbol, code: code)

    def compiled(code=b"machine code", symbol="symbol", of=function):
        compilations = []

        def compile_object():
            compilations.append(1)
            return code

        assert _cache.load(of, symbol, compile_object) == code
        return bool(compilations)

    return compiled


@pytest.fixture
def place(tmp_path):
    return tmp_path / "cache"


def the_file(place):
    (path,) = place.iterdir()
    return path


def test_compiles_once(compiled, place):
    assert compiled()
    assert not compiled()
    assert the_file(place).suffix == ".nck"


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_files_are_private(compiled, place):
    compiled()
    assert place.stat().st_mode & 0o777 == 0o700
    assert the_file(place).stat().st_mode & 0o777 == 0o600


# ------------------------------------------------------------------------------------------------------ bad contents


def torn(content):
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "damage",
    [
        torn,
        lambda content: content[:5],
        lambda content: b"",
        lambda content: b"something else altogether",
        lambda content: content.replace(b"kernel 1", b"kernel 0"),
        lambda content: content[:-1] + b"?",
        lambda content: content + b"?",
        lambda content: content[:20] + b"?" + content[21:],
    ],
    ids=["torn", "head only", "empty", "foreign", "other version", "last byte", "longer", "digest"],
)
def test_a_damaged_file_is_absent_and_replaced(compiled, place, damage):
    compiled()
    path = the_file(place)
    path.write_bytes(damage(path.read_bytes()))
    assert compiled()
    assert not compiled()


def test_a_directory_in_place_of_the_file(compiled, place):
    compiled()
    path = the_file(place)
    path.unlink()
    path.mkdir()
    assert compiled()
    assert compiled()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="needs POSIX permissions")
def test_a_directory_that_others_may_write_to_is_not_trusted(compiled, place, monkeypatch):
    compiled()
    for mode in (0o777, 0o770, 0o702):
        place.chmod(mode)
        assert compiled()
    place.chmod(0o755)
    assert not compiled()
    owner = place.stat().st_uid
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    assert compiled()


# --------------------------------------------------------------------------------------------------------- bad disks


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


def denied(*arguments, **options):
    raise PermissionError(errno.EACCES, "Permission denied")


def read_only(*arguments, **options):
    raise OSError(errno.EROFS, "Read-only file system")


@pytest.mark.parametrize("error", [full, denied, read_only])
@pytest.mark.parametrize("name", ["os.replace", "os.write", "tempfile.mkstemp", "pathlib.Path.mkdir"])
def test_a_disk_that_refuses(compiled, place, monkeypatch, name, error):
    monkeypatch.setattr(name, error)
    assert compiled()
    assert compiled()
    assert not list(place.glob("*"))


@pytest.mark.skipif(not os.path.exists("/proc/self/fd"), reason="needs /proc")
def test_a_failed_write_leaves_no_file_open(compiled, monkeypatch):
    monkeypatch.setattr(os, "write", full)
    before = os.listdir("/proc/self/fd")
    assert compiled()
    assert os.listdir("/proc/self/fd") == before


def test_what_is_written_in_pieces_is_whole(compiled, monkeypatch):
    monkeypatch.setattr(os, "write", lambda handle, content, write=os.write: write(handle, content[:5]))
    assert compiled()
    assert not compiled()


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_fills_up_while_writing(compiled, place, monkeypatch):
    def mkstemp(**options):
        path = place / "some.tmp"
        path.touch()
        return os.open("/dev/full", os.O_WRONLY), str(path)

    monkeypatch.setattr("tempfile.mkstemp", mkstemp)
    assert compiled(b"code " * 100_000)
    assert not list(place.iterdir())


def test_a_directory_that_cannot_be_made(compiled, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("NUMBACNN_CACHE_DIR", str(tmp_path / "file" / "cache"))
    assert compiled()
    assert compiled()
    assert _cache.info()[1:3] == (0, 0)
    assert not _cache.info().writable
    assert _cache.clear() == 0


@pytest.mark.skipif(os.name != "posix" or not os.getuid(), reason="the superuser may write everywhere")
def test_a_directory_without_permission(compiled, place):
    place.mkdir(mode=0o500)
    assert compiled()
    assert compiled()
    assert not _cache.info().writable


def test_no_home(monkeypatch, compiled):
    for name in ("NUMBACNN_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)  # what it does when there is no home
    assert _cache.directory() is None
    assert compiled()
    assert compiled()
    assert _cache.info() == ("(none)", 0, 0, False)
    assert _cache.clear() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="XDG is for POSIX")
def test_where_the_directory_is(monkeypatch):
    monkeypatch.setenv("NUMBACNN_CACHE_DIR", "/a/b")
    assert str(_cache.directory()) == "/a/b"
    monkeypatch.delenv("NUMBACNN_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert str(_cache.directory()) == "/xdg/numbacnn"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert str(_cache.directory()) == "/home/somebody/.cache/numbacnn"


# -------------------------------------------------------------------------------------------------------- info, clear


def test_info_and_clear(compiled, place):
    assert _cache.info() == (str(place), 0, 0, True)
    compiled(b"12345")
    compiled(b"1234567890", symbol="another")
    (place / "notes.txt").write_text("not ours")
    header = len(_cache._MAGIC) + _cache._DIGEST_BYTES
    assert _cache.info() == (str(place), 2, 15 + 2 * header, True)
    assert _cache.clear() == 2
    assert _cache.info() == (str(place), 0, 0, True)
    assert (place / "notes.txt").exists()


# --------------------------------------------------------------------------------------------------------------- key

SOURCE = """
from numbacnn.kernels._build import kernel

FACTOR = 2

@kernel
def scale(block, x: "T[:]", out: "T[:]"):
    out[block] = x[block] * {factor} + FACTOR
"""


@pytest.fixture
def kernel_of(tmp_path):
    """The kernel `scale` in a module of these contents, freshly imported."""
    before = len(_build._registry)

    def kernel_of(source):
        path = tmp_path / "outside.py"
        path.write_text(source)
        _cache._file_digest.cache_clear()
        spec = importlib.util.spec_from_loader("outside", None)
        module = importlib.util.module_from_spec(spec)
        exec(compile(source, str(path), "exec"), module.__dict__)
        return module.scale

    yield kernel_of
    del _build._registry[before:]


def key(kernel, symbol="symbol"):
    return _cache._key(kernel.function, symbol)


def test_the_key_follows_the_source(kernel_of):
    source = SOURCE.format(factor=3)
    first = key(kernel_of(source))
    assert key(kernel_of(source)) == first
    assert key(kernel_of(SOURCE.format(factor=4))) != first
    assert key(kernel_of(source.replace("FACTOR = 2", "FACTOR = 5"))) != first  # a global that the kernel reads
    assert key(kernel_of(source), symbol="other") != first
    assert key(kernel_of(source)) == first


def test_the_key_follows_what_a_kernel_encloses():
    def make(factor):
        def scale(block, x):
            x[block] = factor

        return scale

    assert _cache._key(make(1), "symbol") == _cache._key(make(1), "symbol")
    assert _cache._key(make(1), "symbol") != _cache._key(make(2), "symbol")


def test_the_key_follows_code_typed_at_a_prompt():
    def typed(source):
        names = {}
        exec(compile(source, "<stdin>", "exec"), names)
        return names["f"]

    one, two = (typed(f"def f(x): return x + {number}") for number in (1000, 2000))
    assert _cache._key(one, "symbol") != _cache._key(two, "symbol")


def test_the_key_follows_settings_that_change_the_code(monkeypatch):
    digest = _cache._environment_digest.__wrapped__
    before = digest()
    assert digest() == before
    monkeypatch.setenv("NUMBA_OPT", "1")
    assert digest() != before
    monkeypatch.delenv("NUMBA_OPT")
    machine = _cache.target()
    monkeypatch.setattr(_cache, "target", lambda: machine._replace(cpu="another"))
    assert digest() != before


# --------------------------------------------------------------------------------------------------- whole processes


def test_processes_that_compile_at_once_and_one_that_finds_it_all(tmp_path):
    place = tmp_path / "cache"
    processes = [start_python(WORK, NUMBACNN_CACHE_DIR=place) for _ in range(3)]
    assert [finish(process) for process in processes] == ["True"] * 3
    files = list(place.iterdir())
    assert files
    assert {path.suffix for path in files} == {".nck"}
    assert run_python(WORK, NUMBACNN_CACHE_DIR=place) == "False", "a hit must not import Numba"
    victim = max(files, key=lambda path: path.stat().st_size)
    victim.write_bytes(torn(victim.read_bytes()))
    assert run_python(WORK, NUMBACNN_CACHE_DIR=place) == "True"
    assert run_python(WORK, NUMBACNN_CACHE_DIR=place) == "False"


def test_a_home_that_cannot_be_written(tmp_path):
    (tmp_path / "home").write_text("in the way")
    changes = {"HOME": tmp_path / "home", "NUMBACNN_CACHE_DIR": None, "XDG_CACHE_HOME": None}
    assert run_python(WORK, **changes) == "True"
