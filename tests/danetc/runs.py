"""Directories of runs for the tests of reports: a trained one, and ones whose files mean harm."""

from __future__ import annotations

from pathlib import Path

import danetc
from danetc.main import main
from danetc.runtime.system.files import digest, read_record, save_record

NETWORK = """\
use std

network {name} {{
  input = image(1, 8, 8); steps = 2; neuron = LIF; surrogate = sigmoid(alpha = 4)
  stem = conv(4) -> norm -> spike
  stages = (stage(basic(4), 3) -> stage(basic(4), 2, stride = 2)) via origin by densely_additive
  head = avgpool -> mean_over_time -> linear(10)
}}
"""
HARM = "<img src=x onerror=pwned=1>\"'&"
SCRIPT = "</pre></script><script>window.pwned=1</script>"


def do(*arguments: object) -> None:
    status = main([str(argument) for argument in arguments])
    assert status == 0, arguments


def spec(folder: Path, name: str) -> Path:
    path = folder / f"{name}.danet"
    path.write_text(NETWORK.format(name=name), encoding="utf-8")
    return path


def built(folder: Path, name: str = "other") -> Path:
    """A network that was never trained, in a directory of its name."""
    run = folder / name
    do("build", spec(folder, name), "-o", run)
    return run


def harmful(folder: Path) -> Path:
    """A run whose directory, spec, settings and figures hold markup wherever text can stand."""
    run = folder / HARM
    do("build", spec(folder, "tiny"), "-o", run)
    text = (run / "spec.danet").read_text(encoding="utf-8")
    (run / "spec.danet").write_text(f"# {SCRIPT} {HARM}\n{text}", encoding="utf-8")
    summary = read_record(run / "summary.json")
    summary["files"]["spec.danet"] = digest((run / "spec.danet").read_bytes())
    save_record(summary, run / "summary.json")
    settings = {"network": "tiny", SCRIPT: HARM, "list": [SCRIPT, {"name": HARM, "x": [1, SCRIPT]}]}
    record = {"format": 1, "settings": settings, "facts": {HARM: SCRIPT}, "changes": []}
    save_record(record, run / "run.json")
    epochs = [
        {"phase": SCRIPT, "train_loss": loss, "test_loss": SCRIPT, "test_accuracy": 0.5}
        for loss in (1.0, 1e308, -0.5)
    ]
    save_record({"epochs": epochs}, run / "training.json")
    layers = [
        {"layer": layer, "rate": rate, "silent": 0.0}
        for layer, rate in ((SCRIPT, 0.5), ("stem.spike", 0.25), (HARM, 1e308))
    ]
    entry = {
        "label": HARM, "source": str(run), "trained": True, "network": "tiny", "images": SCRIPT,
        "statistics": HARM, "firing_rate": {"layers": layers, "mean_of_layers": 0.3},
    }  # fmt: skip
    measures = {"format": 1, "danetc": danetc.__version__, "measured": [entry],
                "data": {"text": SCRIPT, "split": HARM}}  # fmt: skip
    save_record(measures, run / "measures.json")
    return run
