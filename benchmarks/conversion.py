"""Accuracy over T of converted ANNs, beside SpikingJelly's converter on the same weights.

Trains a VGG and a ResNet with ReLU and a VGG with QCFS on digits (a minute each), converts
them, and tests each after every T. SpikingJelly's converter has no QCFS, so that network has no control.
Prints the table of docs/training.md and writes benchmarks/results/conversion.json.

    python benchmarks/conversion.py [--epochs N] [--output FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from common import RESULTS, machine  # before torch

# isort: split
import torch
from spikingjelly.activation_based import ann2snn, functional
from torch import Tensor, nn

import danetc
from danetc.runtime.data.registry import open_data

SHOWN = (1, 2, 4, 8, 16, 32)
OURS: dict[str, dict[str, Any]] = {
    "danetc, 99% (default)": {},
    "danetc, 99.9%": {"percentile": 99.9},
    "danetc, SRP after 4 steps": {"srp": 4},
    "danetc, from 0, per layer": {"half": False, "channels": False},
}
QCFS = """
neuron QCFS(levels = 4, height = 4.0) {
  h = learn(height)
  s = h * round(min(max(x / h * levels, -0.5), levels + 0.5)) / levels
}
"""
VGG = """use std
backbone vgg4 =
  stage(single(32), 2)
  -> avgpool(2)
  -> stage(single(64), 2)
  -> avgpool(2)
network vgg {
  input = image(1, 8, 8); steps = 1; neuron = ReLU
  stages = vgg4 via plain
  head = flatten -> linear(10)
}
"""
RESNET = """use std
network resnet {
  input = image(1, 8, 8); steps = 1; neuron = ReLU
  stem = conv(32) -> norm -> spike
  stages = stage(basic(32), 2) via origin
  head = avgpool -> linear(10)
}
"""


def layer(before: int, after: int) -> list[nn.Module]:
    return [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]


class Basic(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*layer(width, width), *layer(width, width)[:2])
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.body(x) + x)
        return out


def torch_vgg() -> nn.Module:
    first, second = [*layer(1, 32), *layer(32, 32)], [*layer(32, 64), *layer(64, 64)]
    tail = [nn.AvgPool2d(2), nn.Flatten(), nn.Linear(256, 10)]
    return nn.Sequential(*first, nn.AvgPool2d(2), *second, *tail)


def torch_resnet() -> nn.Module:
    tail = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10)]
    return nn.Sequential(*layer(1, 32), Basic(32), Basic(32), *tail)


def images(split: str) -> tuple[Tensor, Tensor]:
    data = open_data("digits").split(split)  # type: ignore[arg-type]
    pairs = [data[index] for index in range(len(data))]
    return torch.stack([pair[0] for pair in pairs]), torch.tensor([int(p[1]) for p in pairs])


def spikingjelly(ann: nn.Module, steps: int, **options: Any) -> list[float]:
    """Return the accuracy of SpikingJelly's conversion at each T, with thresholds from all training images."""
    x, labels = images("train")
    batches = list(zip(x.split(64), labels.split(64), strict=True))
    recipe = ann2snn.RateCodingRecipe(batches, channel_wise=True, half_threshold=True, **options)
    spiking = ann2snn.Converter(recipe).convert(ann).eval()
    functional.reset_net(spiking)
    x, labels = images("test")
    total, found = torch.zeros(len(x), 10), []
    with torch.no_grad():
        for _ in range(steps):
            total += spiking(x)
            found.append(float((total.argmax(1) == labels).double().mean()))
    return found


def curves(
    name: str, text: str, counterpart: nn.Module | None, folder: Path, epochs: int
) -> dict[str, Any]:
    """Train a network; return the accuracy of the ANN, and those of its conversions after each T."""
    run = folder / name
    options: dict[str, Any] = {"data": "digits", "seed": 0, "recipe": "digits"}
    danetc.train(text=text, output=run, set={"recipe.epochs": epochs}, **options)
    found: dict[str, list[float | None]] = {}
    for what, options in OURS.items():
        if counterpart is None and "percentile" in options:  # heights are learnt
            continue
        place = folder / f"{name}-{len(found)}"
        made = danetc.convert(run, place, steps=SHOWN[-1], batches=23, **options)
        line = [each.top1 for each in made.over_time]
        found[what] = [None] * (SHOWN[-1] - len(line)) + line
    ann = made.ann.top1
    if counterpart is not None:
        model = danetc.load(run, backend="eager")
        keys, values = counterpart.state_dict(), model.state_dict().values()
        counterpart.load_state_dict(dict(zip(keys, values, strict=True)))
        x, labels = images("test")
        again = float((counterpart.eval()(x).argmax(1) == labels).double().mean())
        assert abs(again - (ann or 0.0)) < 1e-6, (again, ann)
        for mode in ("99%", "99.9%", "Max"):
            found[f"SpikingJelly, {mode}"] = spikingjelly(counterpart, SHOWN[-1], mode=mode)
    return {"ann": ann, "top1": found}


def table(record: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the table in docs/training.md."""
    yield f"| network | conversion | {' | '.join(f'T = {t}' for t in SHOWN)} |"
    yield f"|---|---|{'--:|' * len(SHOWN)}"
    for network, found in record.items():
        ann = f"{network} ({100 * found['ann']:.1f})"
        for what, line in found["top1"].items():
            cells = ("" if line[t - 1] is None else f"{100 * line[t - 1]:.1f}" for t in SHOWN)
            yield f"| {ann} | {what} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=15)
    parser.add_argument("--output", type=Path, default=RESULTS / "conversion.json")
    given = parser.parse_args()
    networks = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, text, counterpart in (
            ("VGG", VGG, torch_vgg()),
            ("ResNet", RESNET, torch_resnet()),
            ("QCFS VGG", QCFS.join(VGG.split("\n", 1)).replace("ReLU", "QCFS"), None),
        ):
            networks[name] = curves(name, text, counterpart, Path(folder), given.epochs)
    print("\n".join(table(networks)))
    record = {"machine": machine(), "epochs": given.epochs, "networks": networks}
    given.output.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
