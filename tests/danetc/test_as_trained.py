"""`eval` reproduces the last test metrics of a training exactly, for every data source and setting, and
`measure` uses the same images.
"""

import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from danetc.main import main
from danetc.runtime.data.sources import SOURCES
from danetc.runtime.system.files import read_record
from danetc.runtime.training.engine import PhaseRun
from danetc.runtime.training.signals import Stopped
from danetc.tasks.training import trials
from tests.forked import in_two

from .conftest import Run
from .datasets import SMALL_DATA, Small, make_folder
from .test_eval import TWO

NETWORK = """
use std
network tiny(classes = {classes}) {{
  input = {input}{encoder}; steps = {steps}
  neuron = LIF(v_threshold = 0.2); surrogate = sigmoid; norm = {norm}
  stem = conv(4) -> norm -> spike
  stages = stage(basic(4), 1) via sew
  head = avgpool -> {head} linear(classes)
}}
recipe test_recipe {{ optimizer = adamw(lr = 0.02); {settings} }}
"""


def spec(data: Small, settings: str, **changes: str) -> str:
    for default in ("batch = 8", "epochs = 2"):
        if default[:6] not in settings:
            settings += f"; {default}"
    layers = {"encoder": "", "norm": "batchnorm", "head": "mean_over_time ->", **changes}
    size = {"classes": data.classes, "input": data.input, "steps": data.frames or 2}
    return NETWORK.format(settings=settings, **layers, **size)


TRAIN = ("train", "tiny.danet", "-q", "-o", "run", "--backend", "eager", "--data")


def train(danetc: Run, text: str, data: str, *options: object) -> Path:
    Path("tiny.danet").write_text(text)
    danetc.passes(*TRAIN, data, *options)
    return Path("run")


def last(run: Path) -> Any:
    record = read_record(run / "training.json")
    assert record["test_accuracy"] == record["epochs"][-1]["test_accuracy"]
    return record["epochs"][-1]


def evaluated(danetc: Run, run: Path, *options: object) -> Any:
    data = read_record(run / "run.json")["settings"]["data"]["text"]
    if data.startswith("python:"):  # the user must name the code again
        options = ("--data", data, *options)
    (found,) = danetc.json("eval", run, *options)["evaluated"]
    return found


KEYS = {"loss": "test_loss", "top1": "test_accuracy", "top5": "test_top5"}


def check_same(found: dict[str, Any], epoch: dict[str, Any]) -> None:
    (figures,) = found["results"]
    assert {key: figures[key] for key in KEYS} == {key: epoch[name] for key, name in KEYS.items()}
    assert found["unlike_training"] == []


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(SOURCES.keys() - {"tokens"}))
@pytest.mark.parametrize("evaluate", [False, True], ids=["as they are", "evaluate"])
def test_eval_and_measure_agree(danetc: Run, tmp_path: Path, name: str, evaluate: bool) -> None:
    small = SMALL_DATA[name]
    data = small.make(tmp_path / "data")
    steps = small.evaluate if evaluate else "none"
    text = spec(small, f"augment = {small.augment}; evaluate = {steps}; batch = 80")
    run = train(danetc, text, data, *small.options)
    found = evaluated(danetc, run)
    check_same(found, last(run))
    assert found["conditions"]["evaluate"].count("->") == steps.count("->")
    # Other images give other figures, so the equality above is meaningful.
    larger = f"resize({2 * small.size}) -> center_crop({small.size})"
    other = evaluated(danetc, run, "--evaluate", larger)
    assert other["results"][0]["loss"] != found["results"][0]["loss"]
    assert any("evaluate resize" in each for each in other["unlike_training"])
    # The first test batch of the training has all images, and the training keeps its firing rates.
    asked = ("--data", data, "--only", "firing-rate", "--batches", "1", "--batch", "80")
    (measured,) = danetc.json("measure", run, *asked)["measured"]
    rates = {each["layer"]: each["rate"] for each in measured["firing_rate"]["layers"]}
    assert rates == pytest.approx(last(run)["firing"], abs=1e-6)


GREY = SMALL_DATA["synthetic"]
TEXT = "synthetic:size=8,channels=1,classes=3,count=40,test=21"
CONDITIONS: dict[str, tuple[str, dict[str, str], tuple[str, ...]]] = {
    "half of float16": ("precision = fp16", {}, ()),
    "bfloat16": ("precision = bf16", {}, ()),
    "running mean": ("ema = 0.6", {}, ()),
    "channels last": ("batch = 8", {}, ("--channels-last",)),
    "recomputed": ("batch = 8", {}, ("--memory", "recompute")),
    "fused": ("precision = bf16", {}, ("--backend", "fused")),
    "every step": ("loss = tet(0.1, 0.5, label_smoothing = 0.123456789)", {"head": ""}, ()),
    "random spikes": ("batch = 8", {"encoder": " -> poisson"}, ("--seed", "7")),
    "dropout": ("batch = 8", {"head": "mean_over_time -> dropout(0.5) ->"}, ()),
    "norms of each step": ("batch = 8", {"norm": "tebn"}, ()),
    "parts of a batch": ("accumulate = 2; workers = 1", {}, ()),
    "an output of two": ("batch = 8", {}, ("--train-output", "late")),
    "phases": (
        "phase one { steps = 1; evaluate = resize(9) -> center_crop(8) } "
        "phase two { steps = 3; start = one; batch = 10 }",
        {"encoder": " -> poisson"},
        (),
    ),
}


@pytest.mark.thorough
@pytest.mark.parametrize("name", CONDITIONS)
def test_eval_goes_by_what_the_training_was(danetc: Run, name: str) -> None:
    settings, changes, options = CONDITIONS[name]
    text = spec(GREY, settings, **changes)
    if name == "an output of two":
        text = TWO.replace("linear(10)", "linear(3)") + text[text.index("recipe") :]
    run = train(danetc, text, TEXT, *options)
    found = evaluated(danetc, run)
    check_same(found, last(run))
    assert found["conditions"]["steps"] == (3 if name == "phases" else 2)


def test_what_is_left_out_in_training_is_left_out_again(danetc: Run, tmp_path: Path) -> None:
    data = make_folder(tmp_path / "data")
    for number in (2, 3, 4, 6):  # all images of the fourth batch, and one of the fifth
        (tmp_path / "data" / "val" / "dog" / f"{number}.png").write_bytes(b"no image")
    folder = SMALL_DATA["folder"]
    text = spec(folder, f"augment = {folder.augment}; batch = 3")
    run = train(danetc, text, data, "--on-unreadable", "skip")
    found = evaluated(danetc, run)
    check_same(found, last(run))
    assert (found["results"][0]["images"], found["results"][0]["skipped"]) == (17, 4)
    assert last(run)["skipped"] == 4


def test_another_choice_is_printed(danetc: Run) -> None:
    run = train(danetc, spec(GREY, "precision = bf16"), TEXT)
    same = danetc("eval", run).out
    assert "backend eager, precision bf16, batch 8, processes 1, evaluate none, ema False\n" in same
    assert "as in the tests of the training\n" in same
    options = ("--batch", "7", "--precision", "float32", "--backend", "fused", "--seed", "3")
    other = danetc("eval", run, *options, "--evaluate", "center_crop(8)").out
    assert "as in the tests" not in other
    for told in (
        "backend fused (was: eager)", "precision float32 (was: bf16)", "batch 7 (was: 8)",
        "evaluate center_crop(size = 8) (was: none)", "seed 3 (was: 0)",
    ):  # fmt: skip
        assert told in other
    data = TEXT.replace("test=21", "test=22")
    more = evaluated(danetc, run, "--data", data)
    assert more["unlike_training"] == [f"data {data} (was: {TEXT})"]
    danetc.fails("did you mean `resize`?", "eval", run, "--evaluate", "resiz(3)")


PHASES = "phase one { steps = 1 } phase two { steps = 3; start = one }"


def test_each_checkpoint_gives_its_own_figures(danetc: Run) -> None:
    text = spec(GREY, PHASES, encoder=" -> poisson")
    run = train(danetc, text, TEXT, "--set", "recipe.keep_every=1")
    epochs = read_record(run / "training.json")["epochs"]
    assert len({epoch["test_loss"] for epoch in epochs}) == 4
    for number, epoch in enumerate(epochs, 1):
        found = evaluated(danetc, run, "--checkpoint", f"epoch-{number:04}")
        check_same(found, epoch)
        assert found["conditions"]["steps"] == (1 if number < 3 else 3)
    check_same(evaluated(danetc, run, "--checkpoint", "phase-one"), epochs[1])


def test_stopped_between_two_phases(danetc: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    fit = trials.fit

    def stopped(run: PhaseRun, *rest: Any) -> Any:
        if run.earlier:
            raise Stopped(signal.SIGTERM, "phase two", True)
        return fit(run, *rest)

    monkeypatch.setattr(trials, "fit", stopped)
    Path("tiny.danet").write_text(spec(GREY, PHASES))
    assert danetc(*TRAIN, TEXT).status == 128 + signal.SIGTERM
    found = evaluated(danetc, Path("run"))
    check_same(found, last(Path("run")))
    assert found["conditions"]["steps"] == 1


# -- two processes ---------------------------------------------------------------------------------


def run_command(arguments: Sequence[str], rank: int) -> None:
    raise SystemExit(main(list(arguments)))


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        pytest.param("precision = bf16; ema = 0.5", (), id="ddp", marks=pytest.mark.thorough),
        pytest.param("sync_norm = true; precision = fp16", ("--channels-last",), id="sync_norm"),
    ],
)
def test_one_process_evaluates_two(danetc: Run, settings: str, more: tuple[str, ...]) -> None:
    """The first process tests 11 of 21 images, the second 10, each with its own random spikes."""
    text = spec(GREY, settings, encoder=" -> poisson")
    Path("tiny.danet").write_text(text)
    in_two(run_command, (*TRAIN, TEXT, *more))
    run = Path("run")
    two = last(run)
    found = evaluated(danetc, run)
    check_same(found, two)
    assert (found["conditions"]["processes"], found["conditions"]["batch"]) == (2, 4)
    # One process finds the run complete, and the figures stay those of two processes.
    assert last(train(danetc, text, TEXT, *more)) == two
    check_same(evaluated(danetc, run), two)
    shared = evaluated(danetc, run, "--batch", "8")
    assert "processes 1 (was: 2)" in shared["unlike_training"]
