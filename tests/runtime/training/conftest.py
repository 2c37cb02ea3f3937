"""Fixtures of the training tests."""

from tests.runtime.training.common import few

__all__ = ["few"]
