"""Files that are written atomically and verified when they are read. Never imports torch.

Directories that danetc owns (runs, model directories, grids) may come from somebody else. Writing there never follows a
link (``replace_file``, ``append_own``), and reading stays inside (``within``).

Files that danetc reads again contain the SHA-256 of their bytes, with zeros in place of its 64 digits. It is at the
beginning of the file under ``sha256``, in JSON and in the metadata of safetensors.
"""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import stat
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from danetc.dsl.errors import UserError
from danetc.dsl.reading import open_regular

BLANK = "0" * 64
"""Placeholder for the digest while it is computed."""
RECORD_HEAD = b'{\n  "sha256": "'
"""Start of a sealed JSON file, up to the digest."""
TENSORS_HEAD = b'{"__metadata__":{"sha256":"'
"""Start of a sealed safetensors file after the 8 bytes of its header's length."""
WRITTEN_BY = '"written_by":"danetc"'
"""Mark in the header of our safetensors files, which shows that a digest is missing."""
_WAITS = (0.01, 0.1, 1.0) if os.name == "nt" else ()
"""Seconds to wait for readers of a file, which Windows does not replace."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of a disk that is full, or of a quota that is reached."""


class DamagedError(UserError):
    """The file ``path`` is not as danetc wrote it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}")
        self.path = path


def within(folder: Path, *names: str) -> Path:
    """Return the path of a file or folder in ``folder``, whether it exists or not.

    ``names`` may come from a record; ``folder`` itself may be a link. Raises DamagedError for an absolute path, ``..``
    or a link that leaves the folder.
    """
    place = folder.joinpath(*names)
    try:
        home, found = os.path.realpath(folder), os.path.realpath(place)
    except (OSError, ValueError) as error:  # a zero byte, links in a circle
        raise DamagedError(place, f"it is not a path ({error})") from error
    inside = Path(found).is_relative_to(home)
    if not inside or any(".." in PurePath(name).parts for name in names):
        raise DamagedError(
            place,
            f"it leads out of {folder} (to {found}); what belongs to a directory must lie in it",
        )
    return place


# -- writing ---------------------------------------------------------------------------------------


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Add a file name to errors of the operating system, which those of a full disk lack."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None
        raise


Content = bytes | Sequence[bytes | memoryview]
"""Content of a file: its bytes, or consecutive pieces of them."""


def pieces(content: Content) -> Sequence[bytes | memoryview]:
    return [content] if isinstance(content, bytes) else content


def replace_file(path: Path, data: Content, *, follow: bool = False) -> None:
    """Write a file atomically: readers find the old or the new content, also after a crash.

    Replaces a symbolic link at ``path``, or with ``follow``, for paths that the user typed, the file that it points to.
    Keeps permissions. Raises OSError with the file's name.
    """
    import secrets  # slow to import

    with naming(path):
        target = Path(os.path.realpath(path)) if follow else path
        temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
        try:
            write_flushed(temporary, data)
            if os.path.lexists(target) and stat.S_ISREG(mode := target.lstat().st_mode):
                temporary.chmod(mode & 0o777)
            _replace(temporary, target)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def _replace(new: Path, target: Path) -> None:
    for wait in _WAITS:
        try:
            return os.replace(new, target)
        except PermissionError:
            time.sleep(wait)
    return os.replace(new, target)


def write_flushed(path: Path, data: Content) -> None:
    """Write a new file and flush it to the disk. Raises OSError with its name."""
    with naming(path), path.open("xb") as stream:
        for piece in pieces(data):
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())


def append_own(path: Path) -> BinaryIO:
    """Open a file of danetc's for appending, after removing a link there. Raises OSError with its name."""
    with naming(path):
        if path.is_symlink():
            path.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        return os.fdopen(os.open(path, flags, 0o666), "ab")


def flush_folder(folder: Path) -> None:
    """Flush the entries of a folder to the disk, if the system supports that."""
    with naming(folder):
        try:
            handle = os.open(folder, os.O_RDONLY)
        except PermissionError:  # Windows, which flushes them itself
            return
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def explain_os_error(error: OSError, then: str = "free some space and try again") -> str:
    """Return a message on an error, with its file and a hint."""
    place = f"{error.filename}: " if error.filename else ""
    why = error.strerror or str(error)
    if error.errno in FULL:
        return f"{place}the disk is full or a limit of it is reached ({why}); {then}"
    return f"{place}{why}"


# -- digests ---------------------------------------------------------------------------------------


def digest(data: Content) -> str:
    """Return the SHA-256 of a file's content."""
    taken = hashlib.sha256()
    for piece in pieces(data):
        taken.update(piece)
    return taken.hexdigest()


def seal_record(record: Mapping[str, Any]) -> bytes:
    """Return a record as JSON of printable ASCII with its digest. Raises ValueError for NaN."""
    assert "sha256" not in record
    text = json.dumps({"sha256": BLANK, **record}, indent=2, allow_nan=False) + "\n"
    text = text.replace("\x7f", "\\u007f")  # the only control character that JSON does not escape
    data = text.encode()
    return _sealed(data, len(RECORD_HEAD), digest(data))


def seal_tensors(
    entries: Mapping[str, object],
    values: Sequence[memoryview],
    metadata: Mapping[str, str] | None = None,
) -> list[bytes | memoryview]:
    """Return a safetensors file with its digest; ``entries`` of its header describe the tensors in ``values``."""
    about = {"sha256": BLANK, "written_by": "danetc", "format": "pt", **(metadata or {})}
    text = json.dumps({"__metadata__": about, **entries}, separators=(",", ":"))
    header = text.encode() + b" " * (-len(text) % 8)
    start = len(header).to_bytes(8, "little") + header
    return [_sealed(start, 8 + len(TENSORS_HEAD), digest([start, *values])), *values]


def check_tensors(path: Path, *, foreign: bool = False) -> None:
    """Raise DamagedError if a safetensors file is not as it was sealed; ``foreign`` allows files of other programs."""
    with opened(path) as stream:
        start = stream.read(4096)
        head = start[8:].startswith(TENSORS_HEAD)
        if not foreign or head or WRITTEN_BY.encode() in start:
            _check(path, start, stream, 8, TENSORS_HEAD)


def _sealed(data: bytes, at: int, seal: str) -> bytes:
    return b"".join((data[:at], seal.encode(), memoryview(data)[at + len(BLANK) :]))


def _check(path: Path, start: bytes, rest: BinaryIO, at: int, head: bytes) -> None:
    """Verify a file, of which ``start`` has the digest after ``head``."""
    place = at + len(head)
    end = place + len(BLANK)
    if start[at:place] != head or len(start) < end:
        raise DamagedError(path, "it does not begin with the SHA-256 that danetc writes there")
    taken = hashlib.sha256(start[:place] + BLANK.encode() + start[end:])
    while piece := rest.read(2**20):
        taken.update(piece)
    if taken.hexdigest().encode() != start[place:end]:
        raise DamagedError(path, "it is not as it was written (SHA-256)")


# -- reading ---------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """Open a file for reading. Raises DamagedError if it is missing, no file, or cannot be read."""
    try:
        with open_regular(path) as stream:
            yield stream
    except FileNotFoundError as error:
        raise DamagedError(path, "it is missing") from error
    except OSError as error:
        raise DamagedError(path, f"it cannot be read ({error.strerror})") from error


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, read in pieces. Raises DamagedError as ``opened``."""
    with opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def save_record(record: Mapping[str, Any], path: Path) -> None:
    """Write a record as JSON with its digest. Raises OSError with the file's name."""
    replace_file(path, seal_record(record))


def read_record(path: Path) -> dict[str, Any]:
    """Return the record of a JSON file of ``save_record``. Raises DamagedError."""
    with opened(path) as stream:
        data = stream.read()
    _check(path, data, io.BytesIO(), 0, RECORD_HEAD)
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:  # deep nesting
        raise DamagedError(path, f"it is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise DamagedError(path, "it holds no record")
    record.pop("sha256", None)
    return record
