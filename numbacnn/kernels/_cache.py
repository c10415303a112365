"""Machine code on disk: one relocatable object file per content key, and the engine that links it into the process.

Numba's own ``cache=True`` keeps an index that can go stale, race or refuse a read-only install. Here the file's name
*is* the digest of everything that can change the code, so there is nothing to invalidate; a file is written under
a temporary name and renamed; anything unreadable counts as absent; and nothing here ever raises because of the disk.
A hit needs neither Numba nor compilation, only LLVM's linker.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import sys
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ._target import target

if TYPE_CHECKING:
    from collections.abc import Callable

_SUFFIX = ".nck"  # header (magic, digest of the object) followed by the object file
_MAGIC = b"numbacnn kernel 1\n"
_DIGEST_BYTES = 32
_engine: Any = None

# Held while a kernel is compiled or linked, and while the process forks: the child of a fork in the midst of it would
# find LLVM half changed and its locks held by a thread that does not exist there.
lock = threading.RLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=lock.release)


class CacheInfo(NamedTuple):
    """Where the kernel cache is and what it holds."""

    directory: str
    files: int
    size_bytes: int
    writable: bool


def directory() -> Path | None:
    """The cache directory, or None where no private one can be had."""
    chosen = os.environ.get("NUMBACNN_CACHE_DIR")
    if chosen:
        return Path(chosen)
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
    else:
        base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return Path(base) / "numbacnn" if base and not base.startswith("~") else None


def load(function: Callable[..., Any], symbol: str, compile_object: Callable[[], bytes]) -> int:
    """Address of `symbol`: from the cached object if there is one, else compiled, stored and linked."""
    key = _key(function, symbol)
    code = _read(key)
    if code is None:
        code = compile_object()
        _write(key, code)
    return _link(symbol, code)


def info() -> CacheInfo:
    """Directory, number of files and their total size."""
    place = directory()
    if place is None:
        return CacheInfo("(none)", 0, 0, False)
    sizes = [size for _, size in _files(place)]
    existing = next((p for p in (place, *place.parents) if p.exists()), place)
    return CacheInfo(str(place), len(sizes), sum(sizes), os.access(existing, os.W_OK | os.X_OK))


def clear() -> int:
    """Delete every cached kernel; return how many files went. Code already loaded stays loaded."""
    place = directory()
    removed = 0
    for path, _ in _files(place) if place else []:
        with contextlib.suppress(OSError):
            path.unlink()
            removed += 1
    return removed


def _files(place: Path) -> list[tuple[Path, int]]:
    found = []
    with contextlib.suppress(OSError):
        for path in place.iterdir():
            if path.suffix == _SUFFIX:
                with contextlib.suppress(OSError):
                    found.append((path, path.stat().st_size))
    return found


def _key(function: Callable[..., Any], symbol: str) -> str:
    digest = hashlib.sha256(_environment_digest())
    digest.update(symbol.encode())
    code = function.__code__
    digest.update(_sources_digest(os.path.dirname(__file__)))
    if os.path.dirname(code.co_filename) != os.path.dirname(__file__):  # a kernel declared outside this package
        digest.update(_file_digest(code.co_filename))
    digest.update(
        repr((code.co_code, code.co_names, [c for c in code.co_consts if not hasattr(c, "co_code")])).encode()
    )
    digest.update(repr([cell.cell_contents for cell in function.__closure__ or ()]).encode())
    return digest.hexdigest()


@functools.cache
def _environment_digest() -> bytes:
    """Everything outside the sources that decides the machine code."""
    import importlib.metadata  # slow to import, and not needed before the first kernel

    machine = target()
    versions = [importlib.metadata.version(name) for name in ("numba", "llvmlite")]
    # Numba reads its settings from the environment: any of them may change the code it generates.
    settings = sorted(item for item in os.environ.items() if item[0].startswith("NUMBA_"))
    python = (sys.implementation.cache_tag, sys.byteorder)
    return hashlib.sha256(repr((machine, versions, settings, python)).encode()).digest()


@functools.cache
def _sources_digest(folder: str) -> bytes:
    digest = hashlib.sha256()
    for path in sorted(Path(folder).glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.digest()


@functools.cache
def _file_digest(path: str) -> bytes:
    try:
        return hashlib.sha256(Path(path).read_bytes()).digest()
    except OSError:  # typed at a prompt: the code object itself, hashed by the caller, is all there is
        return path.encode()


def _read(key: str) -> bytes | None:
    place = directory()
    if place is None:
        return None
    try:
        # On a shared machine a folder that others may write to could hand us their code.
        if hasattr(os, "getuid") and (stat := place.stat()) and (stat.st_uid != os.getuid() or stat.st_mode & 0o022):
            return None
        content = (place / (key + _SUFFIX)).read_bytes()
    except OSError:
        return None
    head = len(_MAGIC) + _DIGEST_BYTES
    digest, code = content[len(_MAGIC) : head], content[head:]
    if content[: len(_MAGIC)] != _MAGIC or hashlib.sha256(code).digest() != digest:
        return None  # torn or foreign
    return code


def _write(key: str, code: bytes) -> None:
    place = directory()
    if place is not None:
        replace_file(place / (key + _SUFFIX), _MAGIC + hashlib.sha256(code).digest() + code)


def replace_file(path: Path, content: bytes) -> None:
    """Write a file of the cache directory under another name and rename it; nothing happens if that is impossible."""
    temporary = None
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(suffix=".tmp", dir=path.parent)  # mode 0600
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(handle, rest) :]
        finally:
            os.close(handle)
        os.replace(temporary, path)
    except OSError:  # read-only, full, no permission: what it holds is made again next time
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _link(symbol: str, code: bytes) -> int:
    """Link an object file into the process and return the address of `symbol`."""
    import llvmlite.binding as llvm

    global _engine
    with lock:
        if _engine is None:
            _start_llvm(llvm)
            machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
            _engine = keep_forever(llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine))
        _engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        _engine.finalize_object()
        address = _engine.get_function_address(symbol)
    if not address:
        raise RuntimeError(f"kernel object does not define {symbol}")
    return address


def keep_forever(thing: Any) -> Any:
    """Hold a reference that shutdown does not drop: our threads may run machine code until the process ends."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))
    return thing


def _start_llvm(llvm: Any) -> None:
    with contextlib.suppress(RuntimeError):  # llvmlite >= 0.45 initialises itself and says so by raising
        llvm.initialize()
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
