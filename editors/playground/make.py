"""``python editors/playground/make.py [FOLDER]``: the page, in ``build/playground`` unless told.

Needs node with npm, and the two registries: npm's, from which package-lock.json takes files by their
hashes, and PyPI, as requirements.txt does. The page itself loads nothing from elsewhere.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
FOLDER = ROOT / "build" / "playground"
STAMP = "sources.sha256"
_PACKAGED = ("danetc", "dsl", "compiler", "runtime", "specs")
_OWN = ("*.py", "*.mjs", "*.json", "*.txt", "*.html", "*.css", "*.svg", "*.danet", "src/*.js")


def sources() -> Iterator[Path]:
    """The files that the page is made of."""
    yield ROOT / "pyproject.toml"
    for pattern in _OWN:
        yield from HERE.glob(pattern)
    for folder in _PACKAGED:
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def fingerprint() -> str:
    """A hash of the sources, which a built page keeps."""
    found = hashlib.sha256()
    for path in sorted(set(sources())):
        found.update(f"{path.relative_to(ROOT)}\0".encode())
        found.update(hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


def is_current(folder: Path) -> bool:
    """Whether a folder holds the page as the sources are now."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text("utf-8") == fingerprint()


def make(folder: Path) -> None:
    """Make the page, anew."""
    before = fingerprint()
    shutil.rmtree(folder, ignore_errors=True)
    python = folder / "python"
    python.mkdir(parents=True)
    _install()
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    with (
        tempfile.TemporaryDirectory() as made
    ):  # by way of the sdist, so that nothing stale slips in
        build_wheel = (sys.executable, "-m", "build", "--no-isolation", "--outdir", made)
        _run(*build_wheel, folder=ROOT, quiet=True)
        (wheel,) = Path(made).glob("*.whl")
        shutil.move(wheel, python)
    wheels = ("--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", python)
    _run(*pip, "download", *wheels, "--requirement", HERE / "requirements.txt")
    _run(sys.executable, "-m", "editors.playground.data", folder.resolve(), folder=ROOT)
    _run("node", HERE / "build.mjs", folder)
    (folder / ".nojekyll").touch()
    (folder / STAMP).write_text(before, "utf-8")


def _install() -> None:
    """``npm ci``, where the lock file is not what is installed."""
    lock = (HERE / "package-lock.json").read_bytes()
    stamp = HERE / "node_modules" / ".installed"
    if not stamp.is_file() or stamp.read_bytes() != lock:
        _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error")
        stamp.write_bytes(lock)


def _run(*command: str | Path, folder: Path = HERE, quiet: bool = False) -> None:
    out = subprocess.DEVNULL if quiet else None
    subprocess.run([str(part) for part in command], cwd=folder, check=True, stdout=out)


if __name__ == "__main__":
    place = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else FOLDER
    if is_current(place):
        print(f"{place} is up to date")
    else:
        make(place)
        size = sum(path.stat().st_size for path in place.rglob("*") if path.is_file())
        print(f"{place}: {size / 1e6:.1f} MB; serve it with: python -m http.server -d {place}")
