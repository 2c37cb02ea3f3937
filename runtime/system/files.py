"""Files on disk: written whole or not at all, and checked before they are believed.

Directories that danetc owns (runs, model directories, grids) may come from somebody else. What is
written there never follows a link (``replace_file``, ``append_own``), and what is
read there lies there (``within``).

A file that danetc writes and reads again carries a digest of itself: the SHA-256 of its bytes, the
64 digits of the digest taken as zeros. It stands at the beginning of the file, under ``sha256``,
in JSON as in the metadata of safetensors, so that one changed bit anywhere is seen. Never imports
torch.
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

from danetc.dsl.reading import open_regular

BLANK = "0" * 64
"""What stands in the place of the digest while it is taken."""
RECORD_HEAD = b'{\n  "sha256": "'
"""How a sealed JSON file begins, up to the digest."""
TENSORS_HEAD = b'{"__metadata__":{"sha256":"'
"""How a sealed safetensors file begins after the 8 bytes of its header's length."""
WRITTEN_BY = '"written_by":"danetc"'
"""What stands in the header of a safetensors file of ours, so that a damaged digest is missed."""
_WAITS = (0.01, 0.1, 1.0) if os.name == "nt" else ()
"""Seconds to wait for whoever reads a file that is to be replaced, which Windows refuses then."""
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class DamagedError(ValueError):
    """A file is not as danetc wrote it. ``path`` names it, ``why`` says what is wrong with it."""

    def __init__(self, path: Path, why: str) -> None:
        super().__init__(f"{path} is damaged: {why}")
        self.path = path
        self.why = why


class OutsideError(DamagedError):
    """A file or folder of a directory lies outside of that directory."""

    def __init__(self, path: Path, folder: Path, to: str) -> None:
        super().__init__(
            path, f"it leads out of {folder} (to {to}); what belongs to a directory must lie in it"
        )


def within(folder: Path, *names: str) -> Path:
    """Return the path of a file or folder that belongs to ``folder``, whether it exists or not.

    ``names`` may come from a record; ``folder`` itself may be a link. Raises OutsideError for an
    absolute path, for ``..`` and for a link that leaves the folder.
    """
    place = folder.joinpath(*names)
    try:
        home, found = os.path.realpath(folder), os.path.realpath(place)
    except (OSError, ValueError) as error:  # a zero byte, links in a circle
        raise DamagedError(place, f"it is no path ({error})") from error
    inside = Path(found).is_relative_to(home)
    if not inside or any(".." in PurePath(name).parts for name in names):
        raise OutsideError(place, folder, found)
    return place


# -- writing ---------------------------------------------------------------------------------------


@contextmanager
def naming(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the operating system under here name this file, as those of a full disk do not."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = os.fspath(path), None
        raise


Content = bytes | Sequence[bytes | memoryview]
"""What a file holds: its bytes, or pieces of them in their order, which lie anywhere in memory."""


def pieces(content: Content) -> Sequence[bytes | memoryview]:
    return [content] if isinstance(content, bytes) else content


def replace_file(path: Path, data: Content, *, follow: bool = False) -> None:
    """Write a file so that a reader, and who looks after a crash, finds the old one or the new.

    A symbolic link at ``path`` is replaced itself; with ``follow``, which is for a path that the user
    typed, the link stays and the file it leads to is written. The file keeps its permissions. Raises
    OSError with its name.
    """
    import secrets  # not in each start of the command

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
            os.replace(new, target)
        except PermissionError:
            time.sleep(wait)
        else:
            return
    os.replace(new, target)


def write_flushed(path: Path, data: Content) -> None:
    """Write a new file and see it to the disk. Raises OSError with its name."""
    with naming(path), path.open("xb") as stream:
        for piece in pieces(data):
            stream.write(piece)
        stream.flush()
        os.fsync(stream.fileno())


def append_own(path: Path) -> BinaryIO:
    """Open a file of a directory of danetc to append to it; a link there is removed first.

    Raises OSError with its name.
    """
    with naming(path):
        if path.is_symlink():
            path.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        return os.fdopen(os.open(path, flags, 0o666), "ab")


def flush_folder(folder: Path) -> None:
    """See the names in a folder to the disk, where a folder can be opened for that."""
    with naming(folder):
        try:
            handle = os.open(folder, os.O_RDONLY)
        except PermissionError:  # Windows opens none, and sees to the names itself
            return
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def is_full(error: OSError) -> bool:
    """Whether a disk takes no more, or a limit of it is reached."""
    return error.errno in _FULL


def explain_os_error(error: OSError, then: str = "free some space and try again") -> str:
    """What has happened to which file, and what helps."""
    place = f"{error.filename}: " if error.filename else ""
    why = error.strerror or str(error)
    if is_full(error):
        return f"{place}the disk is full or a limit of it is reached ({why}); {then}"
    return f"{place}{why}"


# -- digests ---------------------------------------------------------------------------------------


def digest(data: Content) -> str:
    """The SHA-256 of a file that another one speaks of."""
    taken = hashlib.sha256()
    for piece in pieces(data):
        taken.update(piece)
    return taken.hexdigest()


def seal_record(record: Mapping[str, Any]) -> bytes:
    """A record as JSON of printable ASCII, with its digest. NaN is refused: it is not JSON."""
    assert "sha256" not in record
    text = json.dumps({"sha256": BLANK, **record}, indent=2, allow_nan=False) + "\n"
    text = text.replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is
    data = text.encode()
    return _sealed(data, len(RECORD_HEAD), digest(data))


def seal_tensors(
    entries: Mapping[str, object],
    values: Sequence[memoryview],
    metadata: Mapping[str, str] | None = None,
) -> list[bytes | memoryview]:
    """A safetensors file with its digest: ``entries`` of its header say of each tensor what it is and
    where it lies in ``values``, in their order."""
    about = {"sha256": BLANK, "written_by": "danetc", "format": "pt", **(metadata or {})}
    text = json.dumps({"__metadata__": about, **entries}, separators=(",", ":"))
    header = text.encode() + b" " * (-len(text) % 8)
    start = len(header).to_bytes(8, "little") + header
    return [_sealed(start, 8 + len(TENSORS_HEAD), digest([start, *values])), *values]


def check_tensors(path: Path, *, foreign: bool = False) -> None:
    """Raise DamagedError where a safetensors file is not as it was sealed.

    With ``foreign`` a file passes that says nowhere that danetc has written it.
    """
    with opened(path) as stream:
        start = stream.read(4096)
        head = start[8:].startswith(TENSORS_HEAD)
        if not foreign or head or WRITTEN_BY.encode() in start:
            _check(path, start, stream, 8, TENSORS_HEAD)


def _sealed(data: bytes, at: int, seal: str) -> bytes:
    return b"".join((data[:at], seal.encode(), memoryview(data)[at + len(BLANK) :]))


def _check(path: Path, start: bytes, rest: BinaryIO, at: int, head: bytes) -> None:
    """That a file is as it was sealed: its ``start``, which has its digest behind ``head``, and the
    ``rest``."""
    place = at + len(head)
    end = place + len(BLANK)
    if start[at:place] != head or len(start) < end:
        raise DamagedError(path, "it does not begin with the SHA-256 that danetc writes there")
    taken = hashlib.sha256(start[:place])
    taken.update(BLANK.encode())
    taken.update(start[end:])
    while piece := rest.read(2**20):
        taken.update(piece)
    if taken.hexdigest().encode() != start[place:end]:
        raise DamagedError(path, "it is not as it was written (SHA-256)")


# -- reading ---------------------------------------------------------------------------------------


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """A file, open for reading. Raises DamagedError where it is missing, no file, or cannot be read."""
    try:
        with open_regular(path) as stream:
            yield stream
    except FileNotFoundError as error:
        raise DamagedError(path, "it is missing") from error
    except OSError as error:
        raise DamagedError(path, f"it cannot be read ({error.strerror})") from error


def read_file(path: Path) -> bytes:
    """The bytes of a file. Raises DamagedError where it is missing, no file, or cannot be read."""
    with opened(path) as stream:
        return stream.read()


def file_digest(path: Path) -> str:
    """The SHA-256 of a file, which is read in pieces. Raises DamagedError like ``opened``."""
    with opened(path) as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def save_record(record: Mapping[str, Any], path: Path) -> None:
    """Write a record as JSON with its digest. Raises OSError with the file's name."""
    replace_file(path, seal_record(record))


def read_record(path: Path, *, changed: bool = False) -> dict[str, Any]:
    """The record of a JSON file that ``save_record`` wrote; ``changed`` says that somebody has
    changed it on purpose. Raises DamagedError.
    """
    data = read_file(path)
    if not changed:
        _check(path, data, io.BytesIO(), 0, RECORD_HEAD)
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:  # a bracket 200,000 times
        raise DamagedError(path, f"it is not JSON ({error})") from error
    if not isinstance(record, dict):
        raise DamagedError(path, "it holds no record")
    record.pop("sha256", None)
    return record
