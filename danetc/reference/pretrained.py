"""Entries of the trained networks that come with the package."""

from __future__ import annotations

import json
from collections.abc import Iterator

from danetc.pretrained import PREFIX, directory_of, pretrained_names
from danetc.reference.entry import Entry


def pretrained() -> Iterator[Entry]:
    """Each network with what its training found: accuracy, data, T and parameters."""
    for name in pretrained_names():
        place = directory_of(PREFIX + name)
        read = {
            each: json.loads((place / f"{each}.json").read_text(encoding="utf-8"))
            for each in ("run", "training", "summary")
        }
        summary = read["summary"]["summary"]
        neurons = " and ".join(each["name"] for each in summary["neuron_kinds"])
        yield Entry(
            PREFIX + name,
            "pretrained network",
            f"danetc eval {PREFIX}{name}",
            f"{read['training']['test_accuracy']:.2%} of the test images of "
            f"{read['run']['facts']['data']['name']} right: {read['summary']['network']}, "
            f"{neurons}, T = {summary['steps']}, {summary['parameters']:,} parameters.",
        )
