"""Errors of data and trainings, with a message for a person and, after `;`, a hint."""

from __future__ import annotations

from danetc.dsl.diagnostics.visible import visible
from danetc.dsl.errors import UserError


class DataError(UserError):
    """A data set does not exist or does not fit the network. Control characters in the message are escaped."""

    def __init__(self, message: str) -> None:
        super().__init__(visible(message))


class UnreadableError(DataError):
    """A sample cannot be read; the message names its file. A policy decides whether that is fatal."""


class TrainingError(UserError):
    """Raised if a training cannot start or continue."""
