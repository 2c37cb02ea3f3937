"""Every form of `danetc export` beside its model: the networks of specs/ and of the zoo, made small.

Each file is written, read back by the library that it is for, and compared with the model on 100
samples, as `danetc export` does. Outputs must vary by 0.01 and agree to 1e-5 (float16: 2e-3), except in
samples in which rounding changes a spike.

    python benchmarks/exchange.py [--quick | --all] [--forms FORM ...] [--only PART OF A NAME] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import RESULTS, machine  # before torch

# isort: split
import torch

from danetc.compiler import check_file
from danetc.compiler.ir.graph import Graph
from danetc.dsl.reading import ZOO, shipped_specs
from danetc.errors import UserError
from danetc.runtime.model.built import Model
from danetc.tasks.exporting import FileComparison, compare_file
from danetc.tasks.formats import FORMATS, Content
from danetc.tasks.networks import emit_model, network_of
from tests.varying import make_vary
from tests.zoo.harness import CASES

FORMS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "onnx": (".onnx", {}),
    "onnx step": (".onnx", {"streaming": True}),
    "nir": (".nir", {}),
    "source": (".py", {}),
    "pt2": (".pt2", {}),
}
SMALL = {"width": 8, "image": 32, "steps": 2, "classes": 10}
OF_THE_ZOO = (
    "spikformer", "qkformer", "spikingresformer", "sew_gesture", "plif_net", "psn", "tebn",
    "spiking_lstm", "dcls_delays", "srnn",
)  # fmt: skip
"""Ten that differ in neurons, norms, attention, delays and loops; ``--all`` takes all."""
QUICK = ("sew_r18", "danet_c_r20", "own_neuron", "zoo/spikformer", "zoo/srnn")


@dataclass
class Result:
    """A network in one form: its comparison, or why there is none."""

    network: str
    form: str
    seconds: float = 0.0
    found: FileComparison | None = None
    refused: str = ""
    failed: str = ""

    def as_dict(self) -> dict[str, Any]:
        about: dict[str, Any] = {"network": self.network, "form": self.form}
        if self.found is None:
            return about | {"failed": self.failed, "refused": self.refused}
        return about | {"seconds": self.seconds} | asdict(self.found)

    def __str__(self) -> str:
        if self.found is None:
            all_differ = "random samples" in self.refused
            return "FAILED" if self.failed else "(100)" if all_differ else "-"
        differ = self.found.samples - self.found.agreeing
        return f"{self.found.largest:.0e}" + (f" ({differ})" if differ else "")


def networks(names: Iterable[str]) -> Iterator[tuple[str, Graph]]:
    """Shipped networks with small settings."""
    for name in names:
        checked = check_file(name)
        if name.startswith(ZOO):
            settings: dict[str, Any] = dict(CASES[name.removeprefix(ZOO)])
        else:
            known = {"k": 4} if "densenet" in name else {}
            settings = SMALL | known
        yield name, network_of(checked, None, settings).graph


def _kinds() -> list[str]:
    """Of each family the shallowest, and one with bottlenecks, one for CIFAR."""
    found: dict[str, tuple[int, str]] = {}
    for name in shipped_specs():
        if not name.startswith(ZOO):
            depth = int((re.search(r"(\d+)$", name) or ["0"])[0])
            family = re.sub(r"\d+$", "", name)
            found[family] = min(found.get(family, (depth, name)), (depth, name))
    return sorted({name for _, name in found.values()} | {"danet_c_r50", "danet_c_r20"})


def _chosen(quick: bool, everything: bool) -> list[str]:
    """Each kind of shipped network, and ten or all of the zoo."""
    if quick:
        return [*QUICK]
    zoo = [name for name in shipped_specs() if name.startswith(ZOO)]
    few = [name for name in zoo if name.removeprefix(ZOO) in OF_THE_ZOO]
    return [*_kinds(), *(zoo if everything else few)]


def awake(graph: Graph) -> Model:
    """Return a network with new weights whose outputs vary, in evaluation mode."""
    model = emit_model(graph)
    with torch.no_grad():
        make_vary(model, graph)
    return model.eval()


def measured(name: str, graph: Graph, form: str, model: Model) -> Result:
    """Compare a network with its file. An error is a result too, so that a long run continues."""
    suffix, options = FORMS[form]
    row, result, start = FORMATS[suffix], Result(name, form), time.process_time()
    content = Content(graph, model, **options)
    try:
        data = row.write(content)
    except UserError as error:
        result.refused = str(error)
        return result
    try:
        found = compare_file(content, row, data)
    except Exception as error:
        result.failed = f"{type(error).__name__}: {error}"
        return result
    if isinstance(found, str):
        result.refused = found
    else:
        result.found = found
    result.seconds = round(time.process_time() - start, 2)
    return result


def table(results: Sequence[Result], forms: Sequence[str]) -> str:
    """Format the largest difference of each network and form, and how many samples differ."""
    rows = [["network", *forms]]
    for name in dict.fromkeys(item.network for item in results):
        by_form = {item.form: str(item) for item in results if item.network == name}
        rows.append([name, *(by_form.get(form, "") for form in forms)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]  # fmt: skip
    failed = [f"FAILED {item.network}, {item.form}: {item.failed}" for item in results if item.failed]  # fmt: skip
    return "\n".join([*lines, *failed])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="five networks")
    parser.add_argument("--all", action="store_true", help="all of the zoo")
    parser.add_argument("--forms", nargs="+", choices=[*FORMS], default=[*FORMS], metavar="FORM")
    parser.add_argument(
        "--only", default="", metavar="PART", help="networks with this in their name"
    )
    parser.add_argument("--output", type=Path, help=f"results [{RESULTS.name}/exchange.json]")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    results = []
    chosen = [name for name in _chosen(given.quick, given.all) if given.only in name]
    for name, graph in networks(chosen):
        model = awake(graph)
        for form in given.forms:
            results.append(measured(name, graph, form, model))
            print(f"{name}, {form}: {results[-1]}, {results[-1].seconds} s", file=sys.stderr)
    print(table(results, given.forms))
    output = given.output or (None if given.quick or given.only else RESULTS / "exchange.json")
    if output is not None:
        lines = ",\n".join(json.dumps(item.as_dict()) for item in results)
        text = f'{{"benchmark": "exchange", "machine": {json.dumps(machine())}, "results": [\n{lines}\n]}}\n'
        output.write_text(text, encoding="utf-8")
    return int(any(item.failed for item in results))


if __name__ == "__main__":
    sys.exit(main())
