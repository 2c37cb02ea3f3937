"""Results as tables of pandas. It is an extra (``danetc[notebook]``), imported when it is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from danetc.errors import UserError

if TYPE_CHECKING:
    import pandas

WITHOUT = "tables of results need pandas: pip install 'danetc[notebook]'"


def frame(rows: Iterable[Mapping[str, Any]]) -> pandas.DataFrame:
    """A table of rows; what lies in a row's mapping has a column each, as in ``distribution.mean``.

    Raises UserError where pandas is missing.
    """
    try:
        import pandas
    except ImportError as error:
        raise UserError(WITHOUT) from error
    return pandas.json_normalize([dict(row) for row in rows])
