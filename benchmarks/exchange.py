"""Every form of `danetc export` beside its model: the networks of specs/ and of the zoo, made small.

A file is written, read back by the library that it is for, and compared with the model on 100 samples
for each of three seeds of weights and samples. Outputs must vary by 0.01 and agree to 1e-5 (2e-3 of
the largest in float16) with the spikes of the file, which must be the model's but for some at their
threshold, as in the command.

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
from dataclasses import dataclass, field
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
from danetc.tasks.comparing import VARIED, FileComparison, compare_file, make_vary
from danetc.tasks.export_content import Content, ExportOptions
from danetc.tasks.formats import FORMATS
from danetc.tasks.networks import emit_model, network_of
from tests.zoo.harness import case_of

FORMS: Mapping[str, tuple[str, ExportOptions]] = {
    "onnx": (".onnx", ExportOptions()),
    "onnx loop": (".onnx", ExportOptions(time="loop")),
    "onnx step": (".onnx", ExportOptions(time="step")),
    "onnx half": (".onnx", ExportOptions(half=True)),
    "onnx half loop": (".onnx", ExportOptions(time="loop", half=True)),
    "onnx half step": (".onnx", ExportOptions(time="step", half=True)),
    "nir": (".nir", ExportOptions()),
    "source": (".py", ExportOptions()),
    "pt2": (".pt2", ExportOptions()),
    "compiled": (".pt2", ExportOptions(compiled=True)),
}
USUAL = [
    form for form in FORMS if form != "compiled"
]  # which takes a C++ compiler a minute a network
SMALL = {"width": 8, "image": 32, "steps": 2, "classes": 10}
OF_THE_ZOO = (
    "spikformer", "qkformer", "spikingresformer", "sew_gesture", "plif_net", "psn", "tebn",
    "spiking_lstm", "dcls_delays", "srnn",
)  # fmt: skip
"""Ten that differ in neurons, norms, attention, delays and loops; ``--all`` takes all."""
QUICK = ("sew_r18", "danet_c_r20", "own_neuron", "zoo/spikformer", "zoo/srnn")
SEEDS = 3


@dataclass
class Result:
    """A network in one form: how it compared with each seed, or why it could not be written."""

    network: str
    form: str
    seconds: float = 0.0
    seeds: list[FileComparison] = field(default_factory=list)
    refused: str = ""
    failed: str = ""

    @property
    def samples(self) -> int:
        return sum(found.samples for found in self.seeds)

    @property
    def flipped(self) -> int:
        return sum(found.flipped for found in self.seeds)

    @property
    def largest(self) -> float:
        """The largest difference of all samples."""
        return max(found.largest for found in self.seeds)

    def as_dict(self) -> dict[str, Any]:
        """All seeds in one; ``deviation`` is that of the seed whose outputs vary least."""
        about: dict[str, Any] = {"network": self.network, "form": self.form}
        if self.failed or self.refused:
            return about | {"failed": self.failed, "refused": self.refused}
        return about | {
            "seconds": self.seconds,
            "seeds": len(self.seeds),
            "samples": self.samples,
            "flipped": self.flipped,
            "largest": self.largest,
            "deviation": min(found.deviation for found in self.seeds),
            "by_layer": all(found.by_layer for found in self.seeds),
        }

    def __str__(self) -> str:
        if self.failed or self.refused:
            return "FAILED" if self.failed else "-"
        return f"{self.largest:.0e}" + (f" ({self.flipped})" if self.flipped else "")


def networks(names: Iterable[str]) -> Iterator[tuple[str, Graph]]:
    """Shipped networks with small settings."""
    for name in names:
        checked = check_file(name)
        if name.startswith(ZOO):
            settings: dict[str, Any] = dict(case_of(name.removeprefix(ZOO)).small[0])
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


def awake(graph: Graph, seed: int) -> Model:
    """A network with new weights whose outputs vary, in evaluation mode."""
    model = emit_model(graph, seed, "eager")
    with torch.no_grad():
        make_vary(model, graph)
    return model.eval()


def measured(name: str, graph: Graph, form: str, models: Sequence[Model]) -> Result:
    """One network in one form, with the weights of each of ``models``."""
    suffix, chosen = FORMS[form]
    row, found = FORMATS[suffix], Result(name, form)
    read, start = row.read(), time.process_time()
    assert read is not None
    most = 1 if suffix == ".pt2" else SEEDS  # which takes ten times as long
    for seed, model in enumerate(models[:most]):
        content = Content(graph, model, {}, chosen)
        try:
            data = row.write(content)
        except UserError as error:
            found.refused = str(error)
            break
        try:
            compared = compare_file(content, data, read, row.write, seed)
        except UserError as error:
            found.failed = str(error)
            break
        if isinstance(compared, str):
            found.refused = compared
            break
        found.seeds.append(compared)
        if compared.deviation < VARIED:
            found.failed = f"its outputs vary by {compared.deviation:.1e} alone"
            break
    found.seconds = round(time.process_time() - start, 2)
    return found


def _attempted(name: str, graph: Graph, form: str, models: Sequence[Model]) -> Result:
    """The same; what fails otherwise is a result too, so that a run of many goes on."""
    try:
        return measured(name, graph, form, models)
    except Exception as error:
        return Result(name, form, failed=f"{type(error).__name__}: {error}")


def table(results: Sequence[Result], forms: Sequence[str]) -> str:
    """The largest difference of each network and form, with the samples that fire otherwise."""
    rows = [["network", *forms]]
    for name in dict.fromkeys(item.network for item in results):
        by_form = {item.form: str(item) for item in results if item.network == name}
        rows.append([name, *(by_form.get(form, "") for form in forms)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]  # fmt: skip
    for form in forms:
        of_form = [item for item in results if item.form == form]
        samples = sum(item.samples for item in of_form)
        flipped = sum(item.flipped for item in of_form)
        compared = sum(bool(item.seeds) for item in of_form)
        share = 100 * flipped / samples if samples else 0.0
        layers = sum(all(found.by_layer for found in item.seeds) for item in of_form if item.seeds)
        lines.append(
            f"{form}: {compared} of {len(of_form)} networks ({layers} layer by layer), {samples} "
            f"samples, {flipped} with a spike at its threshold that is rounded otherwise ({share:.3f} %)"
        )
    for item in results:
        if item.failed:
            lines.append(f"FAILED {item.network}, {item.form}: {item.failed}")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="five networks")
    parser.add_argument("--all", action="store_true", help="all of the zoo")
    parser.add_argument("--forms", nargs="+", choices=[*FORMS], default=USUAL, metavar="FORM")
    parser.add_argument(
        "--only", default="", metavar="PART", help="networks with this in their name"
    )
    parser.add_argument("--output", type=Path, help=f"results [{RESULTS.name}/exchange.json]")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    results = []
    chosen = [name for name in _chosen(given.quick, given.all) if given.only in name]
    for name, graph in networks(chosen):
        models = [awake(graph, seed) for seed in range(SEEDS)]
        for form in given.forms:
            results.append(_attempted(name, graph, form, models))
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
