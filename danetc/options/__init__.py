"""Arguments and options that several commands take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from danetc.arguments import BACKENDS, look_at_data, parse_memory
from danetc.options.completion import complete_data, complete_specs
from danetc.setting import Setting, parse_setting

if TYPE_CHECKING:
    from danetc.dsl.recipe.item import Item

Function = TypeVar("Function", bound=Callable[..., Any])


def _settings(
    context: click.Context, parameter: click.Parameter, texts: Sequence[str]
) -> dict[str, Setting]:
    result: dict[str, Setting] = {}
    for text in texts:
        try:
            name, value = parse_setting(text)
        except ValueError as error:
            raise click.BadParameter(str(error), context, parameter) from error
        if name in result:
            raise click.BadParameter(f"{name} is set twice", context, parameter)
        result[name] = value
    return result


spec_argument = click.argument("spec", metavar="FILE|NAME", shell_complete=complete_specs)
network_option = click.option(
    "-n", "--network", metavar="NAME", help="The network to take, where the file has several."
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_settings,
    help="Change a parameter or a setting of the network, as in steps=2, or an argument in a setting, "
    "as in neuron.tau=3. Can be repeated.",
)
seed_option = click.option(
    "--seed",
    type=click.IntRange(0, 2**63 - 1),
    default=0,
    show_default=True,
    help="The seed of all random numbers.",
)
backend_option = click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    help="What runs the network.  [default: fused where its kernels can be compiled, else eager]",
)


def _memory(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> str | int | None:

    try:
        return None if text is None else parse_memory(text)
    except ValueError as error:
        raise click.BadParameter(str(error), context, parameter) from error


memory_option = click.option(
    "--memory",
    default="none",
    show_default=True,
    metavar="none|recompute|SIZE",
    callback=_memory,
    help="What is saved for the backward pass. `recompute` runs blocks again instead; a SIZE, as in "
    "8GB or 512MB, takes the cheaper one with which a training step fits, as a step here measures it.",
)


def _steps(
    context: click.Context, parameter: click.Parameter, text: str | None
) -> tuple[Item, ...] | None:
    if text is None:
        return None
    from danetc.dsl.recipe.text import read_setting

    found: tuple[Item, ...] = read_setting("evaluate", text, "--evaluate")
    return found


evaluate_option = click.option(
    "--evaluate",
    metavar="STEPS",
    callback=_steps,
    help="What is done to images, as a recipe's `evaluate` says it: 'resize(256) -> "
    "center_crop(224)', or none.  [default: the training's]",
)
checkpoint_option = click.option(
    "--checkpoint",
    metavar="NAME",
    help="Take these weights of a run, as in best or epoch-0010.  [default: those of the last epoch]",
)
allow_changed_option = click.option(
    "--allow-changed",
    multiple=True,
    metavar="FILE",
    help="Accept this file of a directory, as in spec.danet, although it was changed after danetc wrote it. "
    "Can be repeated.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _deny(context: click.Context, parameter: click.Parameter, value: bool) -> None:
    from danetc.output.spec_messages import Printed

    printed = context.find_object(Printed)
    if value and printed is not None:
        printed.deny = True


deny_warnings_option = click.option(
    "--deny-warnings",
    is_flag=True,
    expose_value=False,
    callback=_deny,
    help="Exit with 1 if there is a warning.",
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")
init_option = click.option(
    "--init",
    metavar="WEIGHTS",
    type=click.Path(),
    help="Start from these weights: safetensors, a state dict that holds tensors alone, or "
    "pretrained:NAME.",
)


class DataType(click.types.StringParamType):
    """The name of a data set, whose place is looked at before anything else is done: before torch is
    imported and a spec is read.
    """

    name = "data"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        look_at_data(value)
        return value

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        from danetc.runtime.data.sources import KNOWN

        return KNOWN


def missing_data() -> click.MissingParameter:
    """What to raise where a command needs data and none are named."""
    context = click.get_current_context()
    option = next(each for each in context.command.params if each.name == "data")
    return click.MissingParameter(ctx=context, param=option)


def data_option(
    text: str = "The data set, as in digits or folder:DIR.", *, required: bool = False
) -> Callable[[Function], Function]:
    """``--data``."""
    return click.option(
        "--data",
        metavar="NAME[:DIR]",
        type=DataType(),
        required=required,
        help=text,
        shell_complete=complete_data,
    )


def spec_options(command: Function) -> Function:
    """A network of one spec: ``spec``, ``network``, ``settings``; and what its warnings do."""
    for option in (deny_warnings_option, set_option, network_option, spec_argument):
        command = option(command)
    return command


split_option = click.option(
    "--split",
    type=click.Choice(["test", "train"]),
    default="test",
    show_default=True,
    help="Which images to take; never augmented.",
)
classes_option = click.option(
    "--classes",
    type=click.IntRange(2),
    metavar="N",
    help="Draw this many classes of the data set at random.",
)
subset_seed_option = click.option(
    "--subset-seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="The seed for drawing the classes.",
)

FORMS = ("table", "markdown", "latex", "csv", "json")


def form_option(command: Function) -> Function:
    """How a table of results is printed: ``form``, one of ``FORMS``."""

    @wraps(command)
    def with_form(form: str, as_json: bool, **given: Any) -> Any:
        return command(form="json" if as_json else form, **given)

    option = click.option(
        "--format",
        "form",
        type=click.Choice(FORMS),
        default="table",
        show_default=True,
        help="How the result is printed.",
    )
    short = click.option("--json", "as_json", is_flag=True, help="Short for --format json.")
    return option(short(cast("Function", with_form)))
