"""Commands on data and trained networks: data, train, eval, predict, measure, record, convert, ..."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import click

from danetc import arguments as arg
from danetc import requests
from danetc.commands.parser import Answer, json_wanted, require
from danetc.errors import UserError
from danetc.output.echo import echo, note
from danetc.output.figures import NAMES, percent, score
from danetc.output.table import print_columns, print_rows, print_table, show, unique_labels
from danetc.runtime.system.torchrun import is_first

if TYPE_CHECKING:
    from danetc.runtime.measure.plots import Entry
    from danetc.tasks.evaluate import Evaluated, Figures
    from danetc.tasks.importing.network import ImportedNetwork

CLASSES = 24
"""Number of classes that ``data`` prints, and of the largest printed confusion matrix; --json has all."""


def data_command(
    source: Annotated[str, replace(arg.DATA, metavar="DATA", flag=None)],
    *,
    recipe: Annotated[str | None, arg.Option("FILE|NAME[:RECIPE]")] = None,
    steps: Annotated[int | None, arg.Option("T", least=1, most=arg.MOST_STEPS)] = None,
    classes: arg.Classes | None = None,
    subset_seed: arg.SubsetSeed = 0,
    seed: arg.Seed = 0,
    output: Annotated[Path | None, arg.Option("OUT.png", parse=arg.file_place(".png"))] = None,
) -> Answer:
    """Describe a data set, and show samples of it.

    DATA is what `train --data` takes: a name, a file, a folder, or your own code. Prints shapes and
    values, and the number of samples of each class.

    Args:
        recipe: Check whether the network of this spec can learn the data; the picture shows samples as
            its recipe augments them.
        steps: Number of frames that recordings of events are cut into. [default: the recipe's]
        output: Write a picture of samples, as a network will see them, to this file.
    """
    from danetc.tasks.data_report import data, facts

    report = data(
        source, recipe=recipe, steps=steps, classes=classes, subset_seed=subset_seed, seed=seed
    )

    def save() -> None:
        if output is not None:
            report.picture().save(output, "PNG")
            echo(f"wrote {output}", err=True)

    def count(value: Any) -> str:
        if isinstance(value, int):
            return f"{value:,}"
        return f"{value['smallest']:.4g} .. {value['largest']:.4g}, mean {value['mean']:.4g}"

    def show() -> None:
        labels, splits = report.record["labels"], tuple(report.record["splits"])
        rows = [
            (str(row["number"]), row["name"], *(count(row[split]) for split in splits))
            for row in labels[:CLASSES]
        ]
        print_columns(list(facts(report.record)))
        echo()
        target = report.record["target"]
        what = {"classes": "class", "numbers": "number"}.get(target, f"class of {target}")
        heads = ("", what, *splits)
        print_table(heads, rows, right={0, *range(2, len(heads))})
        if len(labels) > CLASSES:
            echo(f"... and {len(labels) - CLASSES} more")

    return Answer(report.record, show, then=save)


def train_command(
    request: requests.TrainingRequest,
    *,
    again: Annotated[Path | None, arg.Option("RUN.JSON", "--from")] = None,
    min_accuracy: Annotated[float | None, arg.Option("SHARE", least=0, most=1)] = None,
    dry_run: bool = False,
    quiet: bool = False,
) -> Answer | None:
    """Train a network on a data set by a recipe.

    Writes a model directory with the latest weights after each epoch, training.json with all
    figures, and checkpoints. The same command runs under torchrun, and resumes bit-identically
    after it was stopped or killed; --from repeats the run of a run.json. `batch` is the global batch
    size. Settings of the recipe are set by their path, as in --set recipe.epochs=5. With --json,
    progress goes to standard error and training.json is printed.

    Args:
        again: Repeat a run bit-identically, in place of FILE and --data (unless the data have moved).
        min_accuracy: Exit with 1 if the last test accuracy is lower, as in 0.9.
        dry_run: Print the plan and, after ten timed steps of each phase, the time; write nothing.
    """
    from danetc.runtime.kernels.announcing import unannounced
    from danetc.runtime.system.machine import keep_freed_memory
    from danetc.tasks.training.dry_run import TIMED, print_plan
    from danetc.tasks.training.dry_run import dry_run as dry_run_of
    from danetc.tasks.training.progress import TrainingProgress, print_trials, result
    from danetc.tasks.training.trials import run

    if again is None:
        require("spec", "data")
    else:
        request = _repeated(again, request)
    keep_freed_memory()
    json = json_wanted()
    if dry_run:
        if not quiet:
            note(f"timing {TIMED} steps of each phase")
        with _endings("stopped before the time was known"), unannounced(quiet or json):
            plan = dry_run_of(request, note)
        return Answer(plan, lambda: print_plan(plan)) if is_first() else None
    stream = sys.stderr if json else sys.stdout
    with (
        unannounced(quiet or json),
        TrainingProgress(stream, quiet=quiet) as progress,
        _endings(),
    ):
        directory, record = run(request, observer=progress, note=progress.on_notice)
    if not is_first():
        return None

    def show() -> None:
        if "trials" in record and not quiet:
            print_trials(record)
        echo(f"{result(record)}; written to {directory}")

    def check() -> None:
        found = record["test_accuracy"]
        if min_accuracy is not None and found is None:
            raise UserError("--min-accuracy is for classes, but the network learns numbers")
        if min_accuracy is not None and found < min_accuracy:
            raise UserError(f"the test accuracy of {found:.2%} is below {min_accuracy:.2%}")

    return Answer(record, show, then=check)


WITH_FROM = (
    "again", "data", "output", "fresh", "no_code", "allow_code", "dry_run", "device",
    "min_accuracy", "quiet", "json",
)  # fmt: skip
"""Arguments that change nothing of a run that is repeated."""


def _repeated(again: Path, given: requests.TrainingRequest) -> requests.TrainingRequest:
    """Return the request of an earlier run. Raises a usage error for options that would change it."""
    from click.core import ParameterSource

    from danetc.tasks.training.repeat import request_of

    context = click.get_current_context()
    for name in context.params:
        from_user = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if from_user and name not in WITH_FROM:
            raise click.UsageError(
                f"--from repeats a run as it was: leave out {name.replace('_', '-')}", context
            )
    request = request_of(again, given, data=context.params["data"])
    arg.look_at_data(request.data, f"\n{again} names these data; say where they are with --data")
    return request


@contextmanager
def _endings(message: str | None = None) -> Iterator[None]:
    """Turn a training that a signal stopped, or that rank 0 reports, into an exit status."""
    from danetc.runtime.training.distributed import FailedElsewhere
    from danetc.runtime.training.signals import Stopped

    try:
        yield
    except Stopped as stopped:
        if is_first():
            echo(f"danetc: {message or stopped}", err=True)
        raise click.exceptions.Exit(stopped.status) from stopped
    except FailedElsewhere as error:
        raise click.exceptions.Exit(1) from error


def eval_command(
    request: requests.EvaluationRequest,
    *,
    output: arg.Plot | None = None,
    confusion: arg.Plot | None = None,
) -> Answer:
    """Evaluate the weights in a directory on a data set.

    DIR is a directory of `train`, or pretrained:NAME (`danetc list pretrained`). If it holds several
    trials, their mean and standard deviation are also printed. Data, preprocessing, loss, backend,
    precision, batch and seed are those of the tests during training, so that the last test accuracy is
    reproduced; differences are printed. --steps runs the network at other numbers of time steps than
    its own; --over-time averages the output over the first T steps, for each T.

    With --per-class, the figures are also written to DIR/evaluation.json, for `danetc report`.

    Args:
        output: Draw accuracy against T, as SVG, PNG or PDF (needs danetc[plot]).
        confusion: Draw the confusion matrix, as SVG, PNG or PDF; needs --per-class.
    """
    if confusion is not None and not request.per_class:
        raise click.UsageError("a figure of the confusion matrix needs --per-class")
    if output is not None and not request.over_time and len(request.steps) < 2:
        raise click.UsageError("a figure of accuracy against T needs --over-time or --steps")
    from danetc.tasks.model_directory import EVALUATION, RUN, data_of, open_trained, trials_in

    opened = [open_trained(place) for place in trials_in(str(request.model))]
    texts = [request.data or data_of(trained) for trained in opened]  # before torch is imported
    from danetc.pretrained import PREFIX
    from danetc.runtime.system.files import save_record
    from danetc.tasks.evaluate import evaluate_trained, evaluations_figure

    found = [
        evaluate_trained(trained, replace(request, data=text), silent=json_wanted())
        for trained, text in zip(opened, texts, strict=True)
    ]
    for text in dict.fromkeys(text for each in found for text in each.notes):
        note(text)

    def show() -> None:
        _print_evaluations(found)
        for each in found if request.per_class else ():
            _print_classes(each)

    def save() -> None:
        own = request.per_class and not str(request.model).startswith(PREFIX)
        for each in found if own else ():
            if (each.directory / RUN).is_file():
                classes = {"classes": each.per_class()}
                save_record(each.as_dict() | classes, each.directory / EVALUATION)
                echo(f"wrote {each.directory / EVALUATION}", err=True)
        save_figures(figures)

    figures = (output, partial(evaluations_figure, found)), (confusion, found[0].confusion_figure)
    record = {"split": request.split, "evaluated": [each.as_dict() for each in found]}
    return Answer(record, show, then=save)


def _print_classes(found: Evaluated) -> None:
    """Print the accuracy of each class and, of few classes, the confusion matrix."""
    echo(f"\n{found.directory}, T = {found.results[0].steps}: accuracy of each class")
    rows = [
        (
            each["class"],
            f"{each['images']:,}",
            percent(each["accuracy"]),
            "-" if each["taken_for"] is None else f"{each['taken_for']} ({percent(each['share'])})",
        )
        for each in found.per_class()
    ]
    print_table(("class", "images", "accuracy", "most often confused with"), rows, right={1, 2})
    counts = found.results[0].confusion or ()
    if len(counts) <= CLASSES:
        echo("\nconfusion matrix: a row for each true class, a column for each predicted class")
        heads = ("class", *map(str, range(len(counts))))
        names = (f"{n} {name}" for n, name in enumerate(found.conditions.class_names))
        lines = [(name, *map(str, row)) for name, row in zip(names, counts, strict=True)]
        print_table(heads, lines, right=range(1, len(heads)))


Draw = Callable[[], Any]


def save_figures(figures: Iterable[tuple[Path | None, Draw]], follow: bool = True) -> None:
    """Draw the figures that have a file and something to show; ``follow``: see ``replace_file``."""
    from danetc.runtime.system.figures import WITHOUT, can_plot, save_figure

    for place, draw in figures:
        if place is not None and not can_plot():
            note(f"there are no figures: {WITHOUT}")
            return
        if place is not None and (figure := draw()) is not None:
            save_figure(figure, place, follow=follow)
            echo(f"wrote {place}", err=True)


def _print_evaluations(found: Sequence[Evaluated]) -> None:
    from danetc.runtime.training.evaluation import in_words

    first = found[0]
    count = max(at.images for at in (*first.results, *first.over_time))
    echo(f"{first.network}: {count:,} images of {first.data} ({first.split})")
    lines = []
    for each in found:
        lines.append(", ".join(in_words(each.conditions)))
        if each.unlike_training:
            lines.append(f"unlike the tests of the training: {'; '.join(each.unlike_training)}")
        elif each.unlike_training is not None:
            lines.append("as in the tests of the training")
    for line in dict.fromkeys(lines):
        echo(line)
    means = "\nthe mean output of the first T steps of one run:"
    for name, title in (("results", ""), ("over_time", means)):
        results = [getattr(each, name) for each in found]
        rows = [_cells(str(each.directory), at) for each in found for at in getattr(each, name)]
        if rows:
            if len(found) > 1:
                rows += [row for trials in zip(*results, strict=True) for row in _spread(trials)]
            echo(title)
            print_rows(rows)
    for each in found:
        if skipped := (each.results or each.over_time)[0].skipped:
            note(f"{skipped} images of {each.directory} could not be read")


def _cells(label: str, at: Figures) -> dict[str, str]:
    return {
        "network": label,
        "T": str(at.steps),
        "top-1": percent(at.top1),
        "top-5": percent(at.top5),
        "loss": f"{at.loss:.4f}",
        **{NAMES[name]: score(name, value) for name, value in at.scores.items()},
    }


def _spread(trials: Sequence[Figures]) -> Iterator[dict[str, str]]:
    """Yield the mean and the sample standard deviation of the figures of trials at one T."""
    first = trials[0]
    for label, of in (("mean", statistics.fmean), ("deviation", statistics.stdev)):
        found: dict[str, Any] = {
            name: of([getattr(at, name) for at in trials])
            for name in ("top1", "top5", "loss")
            if getattr(first, name) is not None
        }
        found["scores"] = {name: of([at.scores[name] for at in trials]) for name in first.scores}
        yield _cells(label, replace(first, **found))


def predict_command(
    request: requests.PredictionRequest,
    *,
    top: Annotated[int, arg.Option("K", least=1)] = 3,
    logits: bool = False,
) -> Answer:
    """Predict the classes of images with a trained network.

    RUN is a directory of `train`, or pretrained:NAME. Images are prepared as in the tests of its
    training, and converted from grey to colour or from colour to grey if the network needs it. Prints
    the most probable classes of each IMAGE, or the outputs of a network that learned numbers.

    Args:
        top: Number of classes to print.
        logits: Print the outputs before softmax instead of probabilities.
    """
    from danetc.tasks.model_directory import open_trained

    trained = open_trained(str(request.directory))  # before torch is imported
    from danetc.tasks.evaluate import predict_trained

    found = predict_trained(trained, request, note)
    record = found.as_dict(top)

    def cell(one: dict[str, Any]) -> str:
        share = None if logits else one["probability"]
        return f"{one['class']} " + (f"{one['logit']:.4f}" if share is None else f"{share:.2%}")

    rows = [(each["image"], *map(cell, each["classes"])) for each in record["predictions"]]
    heads = ("image", "class", *[""] * (len(rows[0]) - 2))
    return Answer(record, lambda: print_table(heads, rows, right=()))


def record_command(
    source: Annotated[str, arg.Option("RUN|FILE")],
    images: Annotated[tuple[str, ...], arg.Option("IMAGE")] = (),
    *,
    data: arg.Data | None = None,
    split: arg.Split = "test",
    batch: arg.Count = 1,
    layers: Annotated[Sequence[str], arg.Option("NAMES", separator=",")] = (),
    stream: bool = False,
    prepare: arg.Prepare | None = None,
    backend: arg.BackendName = "fused",
    network: arg.Network | None = None,
    set: arg.Settings,
    seed: arg.Seed = 0,
    device: arg.Device | None = None,
    output: Annotated[Path | None, arg.Option("OUT.npz", parse=arg.file_place(".npz"))] = None,
    raster: arg.Plot | None = None,
    traces: arg.Plot | None = None,
) -> Answer:
    """Record spikes, membrane potentials and currents of neurons over time.

    A RUN is a directory that `train` or `build` wrote, or pretrained:NAME; a FILE (or a shipped NAME)
    is built untrained, and its norms use the statistics of the batch. Each IMAGE is a file, as for
    `predict`; without any, images are those of a data set. Prints the shape [T, N, ...] of each
    layer, spikes per neuron and step, the mean current, and the range of membrane potentials before
    the reset.

    Args:
        data: Data set, as in digits. [default: the one that the run was trained on]
        batch: Number of images of the data set.
        layers: Comma-separated names of layers, of scopes, or patterns like 'stages.*'. [default: all]
        stream: Run the network step by step, not all steps at once.
        output: Write all values to this file, which numpy.load reads.
        raster: Draw the spikes of the first image, as SVG, PNG or PDF (needs danetc[plot]).
        traces: Draw potentials and currents of three neurons of the first layer, as SVG, PNG or PDF.
    """
    from danetc.tasks.measuring.data import open_subject
    from danetc.tasks.measuring.recording import record

    subject = open_subject(source, network, set, seed, device, backend, note)
    x = subject.images(images, data, prepare, split=split, batch=batch)
    norms = subject.statistics
    found = record(subject.model, x, layers or None, stream=stream, statistics=norms, seed=seed)
    rows = found.rows()

    def show() -> None:
        cells = [
            {
                **row,
                "shape": " x ".join(map(str, row["shape"])),
                "rate": f"{row['rate']:.4f}",
                "current": f"{row['current']:.3g}",
                "potential": " .. ".join(f"{x:.3g}" for x in row["potential"] or ()) or "-",
            }
            for row in rows
        ]
        print_rows(cells, left=2)

    def save() -> None:
        if output is not None:
            found.save(output)
            echo(f"wrote {output}", err=True)
        save_figures(((raster, found.raster), (traces, found.traces)))

    return Answer({"network": found.network, "layers": rows}, show, then=save)


def measure_command(
    subjects: Annotated[tuple[str, ...], arg.Option("RUN|FILE")],
    request: requests.MeasuredOn,
    *,
    statistics: Literal["running", "batch"] | None = None,
    network: arg.Network | None = None,
    set: arg.Settings,
    seed: arg.Seed = 0,
    output: Annotated[Path | None, arg.Option("DIR")] = None,
    form: Annotated[arg.Form, arg.Option(flag="--format")] = "table",
) -> None:
    """Measure networks on a data set.

    A RUN is a directory that `train` or `build` wrote, or pretrained:NAME, and is measured with its
    weights; a FILE (or a shipped NAME) is built untrained. Images are prepared as in the tests of the
    RUN's training, or by the recipe that `train` would use for the FILE. The figures show all networks
    together. The last table has a row for each network, as in the paper's Tables IV and V; --format
    prints that table alone in another format.

    Measures are firing rates, gradient stability (dO/dV), membrane potentials and inputs of each layer
    of neurons; spatial and temporal parts of gradient norms; the outputs of blocks; operations and
    energy per image (0.9 pJ per addition and 4.6 pJ per multiply-accumulate in 45 nm, by Horowitz).
    Networks are measured in float32 on the eager backend, whatever they were trained on; the hooks do
    not change results.

    Args:
        statistics: Statistics that norms use. [default: running; batch for an untrained network]
        output: Write measures.json and figures (these need danetc[plot]) to this directory.
    """
    from danetc.compiler.emit.layout import topology_of
    from danetc.runtime.measure.plots import draw_all
    from danetc.runtime.system.figures import WITHOUT, can_plot
    from danetc.runtime.system.files import save_record, seal_record
    from danetc.tasks.measuring.data import open_subject
    from danetc.tasks.measuring.measure import measure_subject
    from danetc.tasks.measuring.tables import overall, print_measures, whole_record
    from danetc.tasks.model_directory import MEASURES, TRAINING, data_of, record_if_any

    if output is not None:  # before the measurement, which would be lost otherwise
        output.mkdir(parents=True, exist_ok=True)
    opened = [
        open_subject(each, network, set, seed, request.device, note=note) for each in subjects
    ]
    request = replace(request, data=request.data or data_of(opened[0].trained))
    names = [topology_of(subject.model).name for subject in opened]
    entries: list[Entry] = []
    records: list[dict[str, Any]] = []
    for label, subject in zip(unique_labels(names, subjects), opened, strict=True):
        chosen = statistics or subject.statistics
        if chosen == "batch" and request.batch < 2:
            raise UserError("norms need more than one image for statistics of the batch")
        silent = form == "json"
        measures, found = measure_subject(label, subject, request, chosen, seed, silent=silent)
        entries.append((label, measures))
        records.append(found)
    record = whole_record(request, records)
    trainings = [record_if_any(subject.trained.path / TRAINING) or {} for subject in opened]
    table = overall(entries, [each.get("test_accuracy") for each in trainings])
    if form == "json":  # as in measures.json, which `report` reads
        echo(seal_record(record).decode(), nl=False)
    elif form == "table":
        for (label, taken), measured in zip(entries, records, strict=True):
            steps = measured["evaluate"]
            echo(
                f"{label}: {taken.images} images of {request.data} ({request.split}), norms by "
                f"{taken.statistics} statistics"
            )
            echo("images as they are" if steps == "none" else f"images through {steps}")
            print_measures(taken)
        echo("whole networks")
    if form != "json":
        show(table, form)
    if output is not None:  # what is printed stays even if there is no room for files
        save_record(record, output / MEASURES)
        written = [output / MEASURES, *(draw_all(entries, output) if can_plot() else ())]
        if not can_plot():
            note(f"there are no figures: {WITHOUT}")
        echo(f"wrote {', '.join(path.name for path in written)} to {output}", err=True)


def convert_command(
    request: requests.ConversionRequest, *, figure: arg.Plot | None = None
) -> Answer:
    """Convert a trained ANN to a spiking network, and test it at every T up to --steps.

    RUN is a directory of `train`, or pretrained:NAME, of a network with `neuron = ReLU` or QCFS. Each
    activation becomes an integrate-and-fire neuron with a soft reset and a threshold computed on
    training images (of QCFS, its height); weights stay the same. The result is a model directory, which `eval`, `export`, `measure`
    and `report` take; its conversion.json records the source. Anything without a spiking counterpart
    is refused with its path in the network.

    Args:
        figure: Draw accuracy against T, as SVG, PNG or PDF (needs danetc[plot]).
    """
    from danetc.tasks.converting import convert

    found = convert(**vars(replace(request, progress=True)))

    def show() -> None:
        echo(f"{found.network}: {found.ann.images:,} images of {found.data} (test)")
        print_rows([_cells("ANN", found.ann), *(_cells("SNN", at) for at in found.over_time)])
        echo(f"written to {found.directory}")

    return Answer(found.as_dict(), show, then=partial(save_figures, [(figure, found.figure)]))


def export_command(request: requests.ExportRequest) -> Answer:
    """Write a network for use elsewhere: its weights, or the whole network.

    DIR is a directory of `train` or `build`, or pretrained:NAME; a spec (FILE or NAME) is written with
    new weights, or with those of --init. Weights under danetc's own names are those of its model.py,
    which needs only torch: `model.load("FILE.safetensors")`. A file of a whole network does not need
    danetc. Before the file is kept, it is read back and compared with the model on random samples;
    the result is printed.
    """
    from danetc.tasks.exporting import export
    from danetc.tasks.formats import FORMATS

    exported = export(**vars(request))

    def show() -> None:
        place = Path(request.source) / "model.py"
        model = place if place.is_file() else "the model.py that `danetc build` writes"
        use = FORMATS[Path(exported.path).suffix.lower()].use.format(
            file=exported.path, model=model
        )
        sizes = f"{exported.tensors} tensors, {exported.bytes:,} bytes"
        echo(f"{exported.network}: {sizes}, in {exported.path}\n{use}")
        found = exported.compared
        if found is not None:
            others = "; in the others, rounding changes a spike" * (found.agreeing < found.samples)
            echo(
                f"read back: {found.agreeing} of {found.samples} random samples agree within "
                f"{found.largest:.1e}{others} (outputs vary by {found.deviation:.2g})"
            )
        elif exported.uncompared:
            echo(f"not compared with the model: {exported.uncompared}")

    return Answer(asdict(exported), show)


def _shape(text: str) -> tuple[int, ...]:
    """Return the shape that a text like 3x32x32 names. Raises ValueError."""
    parts = text.lower().split("x")
    if len(parts) not in (1, 3) or not all(part.isdigit() and int(part) > 0 for part in parts):
        raise ValueError(
            "write channels x height x width, as in 3x32x32, or the length of a vector, as in 64"
        )
    return tuple(map(int, parts))


def import_command(
    source: Annotated[str, arg.Option("MODULE:FACTORY|FILE")],
    *,
    output: Annotated[Path, arg.Option("FILE.danet")],
    input: Annotated[Any, arg.Option("CxHxW", parse=_shape)] = None,
    steps: Annotated[int | None, arg.Option("T", least=1, most=4096)] = None,
    events: bool = False,
    name: Annotated[str | None, arg.Option("NAME")] = None,
    samples: Annotated[int, arg.Option(least=2)] = 100,
    force: bool = False,
) -> Answer:
    """Write a model of PyTorch or SpikingJelly, or a NIR file, as a spec with its weights.

    MODULE is the name of a module or a .py file, FACTORY a model or a function that returns one,
    optionally with keyword arguments: 'my_nets.py:make(depth=18)'. This executes the module's code.
    Stages, blocks and connections are recognised in the computation, and get names of the standard
    library if they mean the same.

    Nothing is written unless the spec is proved to be the same network, and its outputs with these
    weights agree with those of the model.

    Args:
        output: File of the spec. The weights go to a model directory next to it, FILE.
        input: Shape of a sample, as in 3x224x224, or 64 for vectors. Files of graphs contain it.
        steps: Number of time steps. [default: 4 with spiking neurons, else 1]
        events: The network takes frames, not a single image.
        name: Name of the network.
        samples: Number of samples whose outputs are compared.
    """
    from danetc.output.console import VisibleConsole
    from danetc.tasks.importing.network import check_output, import_network, write_imported

    directory = check_output(output, force=force)
    with VisibleConsole(sys.stderr).status("reading") as status:
        found = import_network(
            source,
            input,
            steps=steps,
            events=events,
            name=name or output.stem,
            samples=samples,
            on_progress=status.update,
        )
    write_imported(found, output, directory, note)
    return Answer(
        {**found.as_dict(), "spec": str(output), "directory": str(directory)},
        lambda: echo(f"{import_text(found)}\nwritten to  {output} and {directory}"),
    )


def import_text(found: ImportedNetwork) -> str:
    """Return the output of an import: the stages that were found, and the comparison of outputs."""
    lines = [f"{found.found.network}: {found.found.lines} lines"]
    for stage in found.found.stages:
        literal = f"  ({', '.join(stage.own)}: its own)" if stage.own else ""
        rule = "" if stage.rule == "chain" else f" by {stage.rule}"
        lines.append(f"  {stage.text} via {stage.connection}{rule}{literal}")
    if found.found.own:
        lines.append(f"not in the standard library: {', '.join(found.found.own)}")
    seen = found.agreement
    weights = "its weights" if seen.own_weights else "weights that make its layers vary"
    lines.append(
        f"compared    {seen.samples} samples with {weights}: logits vary by "
        f"{seen.deviation:.2g}, the largest difference is {seen.difference:.1e}"
    )
    if seen.flipped:
        share = f"{100 * seen.flipped / seen.samples:.1f} %"
        lines.append(
            f"            {seen.flipped} more ({share}) differ: rounding changes a spike at its threshold"
        )
    return "\n".join(lines)
