"""Errors of data and trainings, with a message for a person and, after `;`, a hint."""

from __future__ import annotations

from danetc.dsl.diagnostics.visible import visible


class DataError(ValueError):
    """There is no such data set, or it does not fit the network.

    The message is one line, whatever the names of folders and files in it hold.
    """

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


class UnreadableError(DataError):
    """One sample cannot be read; the message names its file. A policy says whether that stops."""


class TrainingError(ValueError):
    """A training cannot start, or cannot continue."""


class CheckpointError(TrainingError):
    """A checkpoint is damaged, cannot be written, or belongs to another network or run."""
