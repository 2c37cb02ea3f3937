"""What a process does that helps to compile kernels (``helpers``)."""

from __future__ import annotations

import os
import pickle
import sys
from typing import IO, Any

from danetc.runtime.kernels.compiled import compile_to_disk, missing_compiler
from danetc.runtime.kernels.helpers import DONE, FAILED, READY


def serve() -> None:
    """Compile what standard input asks for, until it ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever torch prints is no answer
    answer(sys.stdin.buffer, answers)


def answer(requests: IO[bytes], answers: IO[bytes]) -> None:
    """Answer each ``Request`` when its kernel is on the disk, or cannot be."""
    missing_compiler("cpu")  # imports the compiler
    answers.write(READY)
    answers.flush()
    while True:
        try:
            request: Any = pickle.load(requests)
        except EOFError:
            return
        answers.write(DONE if compile_to_disk(request.job()) else FAILED)
        answers.flush()
