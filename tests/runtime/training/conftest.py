"""Fixtures of the tests of training."""

from tests.runtime.training.common import few

__all__ = ["few"]
