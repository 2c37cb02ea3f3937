"""Repetition of a run from its run.json: the network and the recipe as text, the rest as it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from danetc.arguments import check_fields
from danetc.dsl.recipe.settings import SETTINGS
from danetc.dsl.recipe.text import write_setting
from danetc.errors import UserError
from danetc.requests import RepeatedTraining, TrainingRequest
from danetc.runtime.data.sources import find
from danetc.runtime.system.devices import find_device
from danetc.runtime.training.backward import DEVICES
from danetc.tasks.model_directory import RUN, TRIALS
from danetc.tasks.training.directory import compare, read_run
from danetc.tasks.training.provenance import differences

if TYPE_CHECKING:
    from danetc.output.echo import Note

Record = Mapping[str, Any]


def request_of(place: Path, given: TrainingRequest, *, data: str | None) -> RepeatedTraining:
    """Return the request of the run of a run.json (or its directory), to train it again.

    ``given`` says where, whether it starts over, and which code and files are admitted. ``data`` is
    the place of the data if they have moved. The plan is compared with the record (``check_repetition``), so a
    repetition that could not give the same numbers is refused. Raises UserError.
    """
    from danetc.tasks.code import refuse_recorded_data

    directory = place.parent if place.name == RUN else place
    if (directory / TRIALS).is_file():
        raise UserError(f"{directory} holds trials; choose one of {directory}/seed-.../{RUN}")
    record = read_run(directory) if directory.is_dir() else None
    if record is None:
        raise UserError(f"there is no {RUN} in {directory}; `danetc train` writes one")
    try:
        settings, asked = record["settings"], record["facts"]["request"]
        recorded_data = settings["data"]["text"]
        if data is None:
            refuse_recorded_data(recorded_data, directory / RUN)
        graphs = asked.get("cuda_graphs", False) and find_device(given.device).type in DEVICES
        source, argument = find(data or recorded_data)
        text = source.request(argument).text
        moved = {**settings, "data": {**settings["data"], "text": text}}
        request = RepeatedTraining(
            spec=asked["spec"],
            text=f"{settings['spec']}\n{recipe_text(settings['recipe'], record['facts']['recipe'])}",
            data=data or recorded_data,
            network=settings["network"],
            recipe=settings["recipe"]["name"],
            output=given.output or f"runs/{settings['network']}-again",
            seed=settings["seed"],
            init=asked["init"],
            init_skip=settings.get("init_skip"),
            backend=settings["backend"],
            memory=asked["memory"],
            channels_last=settings["channels_last"],
            train_output=settings["train_output"],
            deterministic=settings["deterministic"],
            classes=asked["classes"],
            subset_seed=asked["subset_seed"],
            on_unreadable=settings["data"]["on_unreadable"],
            cuda_graphs=graphs,
            device=given.device,
            fresh=given.fresh,
            no_code=given.no_code,
            allow_code=given.allow_code,
            repeated={**record, "settings": moved},
        )
        check_fields(request)
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{directory / RUN} lacks what a repetition needs ({error})") from error
    return request


def check_repetition(repeated: Record, settings: Record, facts: Record, note: Note) -> None:
    """Check that the settings are those of the recorded run. Raises UserError if not.

    Changes of versions and of the machine, which may change the numbers, are noted.
    """
    if changed := compare(repeated["settings"], settings):
        listed = "\n  ".join(changed)
        raise UserError(f"this would not repeat the run, since the settings differ:\n  {listed}")
    for changes in repeated.get("changes", []):
        note(
            "the run did not have these settings from the start, so it cannot be repeated: earlier it had "
            f"{'; '.join(changes)}"
        )
    if repeated.get("earlier"):
        note(
            "the run was resumed under other versions or on another machine; see `earlier` in its run.json"
        )
    if repeated["facts"]["request"].get("cuda_graphs") and not facts["request"]["cuda_graphs"]:
        note("the run recorded its steps as CUDA graphs, which this device does not have")
    for difference in differences(repeated["facts"], facts):
        note(f"{difference}: the numbers may not be the same")


def recipe_text(settings: Record, whole: Record) -> str:
    """Return a resolved recipe as source. ``whole`` also has the settings that do not affect the numbers."""
    lines = [f"recipe {settings['name']} {{"]
    for name, phase in settings["phases"].items():
        lines.append(f"  phase {name} {{")
        lines += [f"    {line}" for line in _lines(phase, ("phase", "phase only"))]
        lines.append("  }")
    merged = {**whole, **settings, "trials": 1}
    lines += [f"  {line}" for line in _lines(merged, ("recipe",))]
    return "\n".join([*lines, "}"]) + "\n"


def _lines(record: Record, scopes: tuple[str, ...]) -> Iterator[str]:
    for key, row in SETTINGS.items():
        if row.scope in scopes:
            yield f"{key} = {write_setting(key, record.get(key))}"
