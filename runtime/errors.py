"""What goes wrong with data. Both are for a person to read: a message and, after `;`, a hint."""

from __future__ import annotations


class DataError(ValueError):
    """There is no such data set, or it does not fit the network."""


class UnreadableError(DataError):
    """One sample cannot be read; the message names its file. A policy says whether that stops."""
