"""What ends a training."""

from __future__ import annotations


class TrainingError(ValueError):
    """A training cannot be started, or cannot continue."""


class CheckpointError(TrainingError):
    """A checkpoint is damaged, cannot be written, or belongs to another network or run."""
