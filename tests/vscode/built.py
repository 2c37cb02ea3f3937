"""The extension built once a session, where its packages are there (``make editors`` installs them)."""

from __future__ import annotations

import shutil
import subprocess
from functools import cache

from tests.highlighting.texts import ROOT

FOLDER = ROOT / "editors/vscode"


@cache
def missing() -> str:
    """Why nothing can be built; empty where it can."""
    if shutil.which("node") is None:
        return "there is no node (Debian: apt install nodejs npm)"
    if not (FOLDER / "node_modules").is_dir():
        return "editors/vscode has no packages (make editors)"
    return ""


def run(*command: str) -> str:
    """What a command prints in the extension's folder; it must succeed."""
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


@cache
def build() -> None:
    run("node", "build.mjs", "--tests")
