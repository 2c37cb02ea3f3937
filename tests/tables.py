"""Tests that run over the rows of a table."""

from collections.abc import Callable, Collection
from typing import Any


def each_of(rows: Collection[Any]) -> Callable[[Callable[..., None]], Callable[[], None]]:
    """Run a test for each row of a table, as one test. A failure names its row.

    Most rows take less time than pytest needs for a case, and ``tests.mutants`` runs few cases of a
    parametrized test.
    """

    def decorate(function: Callable[..., None]) -> Callable[[], None]:
        def test() -> None:
            for row in rows:
                try:
                    function(*row) if isinstance(row, tuple) else function(row)
                except Exception as error:
                    error.add_note(f"row: {row!r}")
                    raise

        test.__name__, test.__doc__ = function.__name__, function.__doc__
        test.__module__ = function.__module__
        return test

    return decorate
