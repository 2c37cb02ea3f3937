"""A training's plan as people read it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from danetc.compiler.plans.memory import show_size
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.recipe.text import write_setting
from danetc.dsl.recipe.value_types import ChangeType, SumType
from danetc.output.echo import echo
from danetc.output.summary import print_table
from danetc.tasks.training.chart import chart
from danetc.tasks.training.printing import HEADS
from danetc.tasks.training.progress import show_time

Record = Mapping[str, Any]


def print_plan(record: Record) -> None:
    """Print what is known before a step is timed."""
    data = record["data"]
    phases = record["phases"]
    images = f"{data['train']:,} images to train on, {data['test']:,} to test"
    processes = f"{record['processes']} process{'es' if record['processes'] > 1 else ''}"
    changed = ", ".join(f"{name} = {value}" for name, value in record["settings"].items())
    for what, value in (
        ("network", record["network"] + (f" with {changed} from --set" if changed else "")),
        ("parameters", f"{record['parameters']:,}"),
        ("data", f"{data['text']}: {images}, {data['classes']} classes"),
        ("runs on", f"{processes}, {record['device']}, backend {record['backend']}"),
        ("directory", f"{record['directory']} ({record['state']})"),
        ("seeds", ", ".join(map(str, record["seeds"]))),
        ("recipe", record["recipe"]["name"]),
    ):
        echo(f"{what:<11} {value}")
    echo()
    print_table(("setting", "value", "from"), list(settings(record["recipe"])), right=set())
    echo()
    heads = ("phase", "T", "epochs", "images/step", "per process", "steps/epoch", "steps", "holds")
    rows = [
        (
            phase["name"],
            str(phase["time_steps"]),
            str(phase["epochs"]),
            _in_parts(phase, "images_per_step"),
            str(phase["images_per_process"]),
            f"{phase['steps_per_epoch']:,}",
            f"{phase['steps_per_epoch'] * phase['epochs']:,}",
            _held(phase["memory"]),
        )
        for phase in phases
    ]
    print_table(heads, rows, right=set(range(1, len(heads))))
    echo("holds: tensors that a step of one process holds when its forward pass ends")
    echo()
    _print_schedule(phases)
    echo()


def print_time(record: Record) -> None:
    """Print what the timed steps say."""
    for phase in record["phases"]:
        if "not_timed" in phase:
            echo(f"phase {phase['name']} is not timed: {phase['not_timed']}")
    timed = [phase for phase in record["phases"] if "not_timed" not in phase]
    if not timed:
        return
    parts = list(timed[0]["shares"])
    heads = (
        "phase", "timed steps", "s/step", "images/s", *(HEADS.get(part, part) for part in parts),
        "peak memory", "whole phase",
    )  # fmt: skip
    rows = [
        (
            phase["name"],
            str(phase["timed_steps"]),
            f"{phase['seconds_per_step']:.3g}",
            f"{phase['images_per_second']:,.0f}",
            *(f"{phase['shares'][part]:.1%}" for part in parts),
            "not measured"
            if phase["memory"]["peak"] is None
            else show_size(phase["memory"]["peak"]),
            show_time(phase["seconds"]),
        )
        for phase in timed
    ]
    print_table(heads, rows, right=set(range(1, len(heads))))
    for phase in timed:
        if phase["not_waited_for"] is not None:
            echo(f"phase {phase['name']}: {phase['not_waited_for']}")
    if record["seconds"] is None:
        return
    trials = len(record["seeds"])
    several = f" for {trials} trials" if trials > 1 else ""
    echo(f"the whole training takes about {show_time(record['seconds'])}{several}")


def settings(recipe: Record) -> Iterator[tuple[str, str, str]]:
    """Each setting, its value and where that comes from; once where all phases agree."""
    origins = recipe["origins"]
    phases = recipe["phases"]
    for key in (key for key in phases[0] if key != "name"):
        rows = [
            (_setting(key, phase[key]), _origin(origins, f"{phase['name']}.{key}"))
            for phase in phases
        ]
        if len(set(rows)) == 1:
            yield key, *rows[0]
            continue
        for phase, row in zip(phases, rows, strict=True):
            yield f"{phase['name']}.{key}", *row
    for key in (key for key in recipe if key not in ("name", "phases", "origins")):
        yield key, show_value(recipe[key]), _origin(origins, key)


def _setting(key: str, value: object) -> str:
    """A setting of a phase; sums as a recipe has them."""
    sums = isinstance(SETTINGS[key].type, SumType | ChangeType)
    return write_setting(key, value) if sums else show_value(value)


def _origin(origins: Mapping[str, str], key: str) -> str:
    """Of a setting, and of arguments of it that come from elsewhere."""
    changed = [
        f"{name.removeprefix(key + '.')} from {origin}"
        for name, origin in origins.items()
        if name.startswith(f"{key}.")
    ]
    return ", ".join([origins[key], *changed])


def show_value(value: object) -> str:
    """A value of a resolved recipe, as a recipe writes it."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case float():
            return f"{value:g}"
        case Mapping():
            given = [(k, v) for k, v in value.items() if k != "name"]
            listed = ", ".join(f"{key} = {show_value(item)}" for key, item in given)
            return f"{value['name']}({listed})" if given else str(value["name"])
        case [Mapping(), *_]:
            return " -> ".join(map(show_value, value))
        case []:
            return "none"
        case list() | tuple():
            return ", ".join(map(show_value, value))
    return str(value)


def _in_parts(phase: Record, key: str) -> str:
    parts = phase["parts"]
    return f"{phase[key]:,}" + (f" in {parts} parts" if parts > 1 else "")


def _held(memory: Record) -> str:
    policy = "" if memory["policy"] == "none" else f" ({memory['policy']})"
    held = memory["held"]
    return ("not known" if held is None else show_size(held["total"])) + policy


def _print_schedule(phases: Sequence[Record]) -> None:
    """The learning rate over all phases, one under the other's time."""
    epochs = sum(phase["epochs"] for phase in phases)
    values: list[float] = []
    samples = 64
    for phase in phases:  # as many columns as it has epochs of all
        rates = [rate for _, rate in phase["learning_rates"]]
        count = max(1, round(samples * phase["epochs"] / epochs))
        values += [rates[len(rates) * place // count] for place in range(count)]
    log = any(phase["schedule"] == "step" for phase in phases)
    echo(f"learning rate over {epochs} epochs{', logarithmic' if log else ''}")
    for line in chart(values, width=len(values), log=log):
        echo(line)
