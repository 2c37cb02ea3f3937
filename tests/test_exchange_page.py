"""docs/guides/exchange.md says what benchmarks/exchange.py has measured."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]


def shown(found: dict[str, Any]) -> str:
    if "largest" not in found:
        assert not found["failed"]
        return "(100)" if "each of 100 random samples" in found["refused"] else "-"
    differ = found["samples"] - found["agreeing"]
    return f"{found['largest']:.0e}" + (f" ({differ})" if differ else "")


def test_the_table_is_what_was_measured() -> None:
    text = (ROOT / "benchmarks" / "results" / "exchange.json").read_text(encoding="utf-8")
    measured: dict[str, list[str]] = {}
    for found in json.loads(text)["results"]:
        measured.setdefault(found["network"], []).append(shown(found))
    page = (ROOT / "docs" / "guides" / "exchange.md").read_text(encoding="utf-8")
    _, _, table = page.partition("| network | onnx | onnx step |")
    rows = re.findall(r"^\| ([\w/]+) \| (.*) \|$", table, re.MULTILINE)
    assert {name: cells.split(" | ") for name, cells in rows} == measured
    assert len(measured) > 20
