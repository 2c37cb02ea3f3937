"""Commands on the network of a spec: summary, build, draw, prove, equiv, bench."""

from __future__ import annotations

import os
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import click

from danetc import arguments as arg
from danetc.commands.parser import Answer
from danetc.dsl.diagnostics.visible import visible
from danetc.output.echo import echo, note
from danetc.output.figures import show_size
from danetc.output.table import print_columns, print_rows, print_table
from danetc.tasks.networks import admit_layers, compile_spec, initialise

if TYPE_CHECKING:
    from danetc.compiler.analysis.summary import Summary

PICTURE = arg.file_place(".svg", ".png", ".pdf", ".gv")


def summary_command(
    spec: arg.Spec,
    *,
    network: arg.Network | None = None,
    set: arg.Settings,
    batch: arg.Count | None = None,
    precision: arg.Precision = "float32",
    optimizer: Literal["sgd", "adamw", "sgd_momentum"] = "sgd_momentum",
) -> Answer:
    """Print parameters, operations and memory of a network.

    For each stage: kinds of its blocks' inputs and outputs and of its own output (spikes, integers,
    reals), the smallest number of neurons between the stem and its end, and parameters. For the
    network: the fewest and the most neurons on a path from an input to an output, and operations per
    image. With --batch, also the bytes of tensors in a training step, computed without running it.

    Args:
        batch: Also print the memory of a training step of this many images, for each backend and
            memory policy.
        optimizer: Optimizer of that step.
    """

    compiled = compile_spec(spec, network=network, settings=set)
    record, plans = compiled.summary.as_dict(), []
    if batch is not None:
        from danetc.compiler.ir.ops.user import refuse_code
        from danetc.compiler.passes.recompute import POLICIES
        from danetc.tasks.memory import plain_step, step_memory

        refuse_code(compiled.graph, "`summary` does not run", "its memory is unknown: omit --batch")
        plans = [
            step_memory(plain_step(compiled.graph, backend, batch, precision, optimizer), policy)
            for backend in ("eager", "fused")
            for policy in POLICIES
        ]
        record = {**record, "memory": [asdict(plan) for plan in plans]}

    def show() -> None:
        print_summary(compiled.summary)
        if plans:
            sizes = ("saved", "weights", "optimizer", "peak")
            rows = [
                {"backend": each.backend, "policy": each.policy}
                | {name: show_size(getattr(each, name)) for name in sizes}
                for each in plans
            ]
            echo()
            print_rows(rows, left=2)
            echo(
                f"tensors of a training step (batch {batch}, {plans[0].dtype}, {optimizer}); saved: held "
                "from the forward to the backward pass; peak: the most at a time, without the "
                "workspace of operators"
            )

    return Answer(record, show)


def print_summary(summary: Summary) -> None:
    """Print a table of a network's stages, then the figures of the whole."""
    from danetc.compiler.analysis.summary import NOTES, lines, stage_table

    echo(f"{summary.name}, T = {summary.steps}\n")
    if summary.stages:
        print_table(*stage_table(summary))
        print_columns([("", text) for text in NOTES])
        echo()
    print_columns([(what, visible(value)) for what, value in lines(summary)])


def build_command(
    spec: arg.Spec,
    *,
    network: arg.Network | None = None,
    set: arg.Settings,
    output: Annotated[Path | None, arg.Option("DIR")] = None,
    seed: arg.Seed = 0,
    init: arg.Init | None = None,
    init_skip: arg.InitSkip | None = None,
    memory: arg.Memory = "none",
    batch: arg.Count | None = None,
    backend: Literal["eager", "fused"] = "eager",
    no_code: bool = False,
) -> Answer:
    """Compile a network into a model directory and print its summary.

    The directory holds model.py (needs only torch), weights.safetensors, the graph as text,
    topology.svg, summary.json and spec.danet (everything the network is made of, in one file). An
    existing model directory of that name is replaced once everything is written. danetc.load uses
    the memory policy; model.py saves everything that its backward pass needs.

    Args:
        output: Directory to write to. [default: build/NETWORK]
        batch: Images in a training step, for --memory SIZE.
        backend: Backend for which --memory SIZE selects a policy.
    """
    if isinstance(memory, int) and batch is None:
        raise click.UsageError("--memory SIZE needs --batch N, the images of a training step")
    from danetc.tasks import model_directory
    from danetc.tasks.memory import choose

    compiled = compile_spec(spec, network=network, settings=set)
    directory = output if output is not None else Path("build") / compiled.lowered.graph.name
    model_directory.refuse_unless_replaceable(directory)
    admit_layers(compiled.graph, spec, no_code=no_code)
    chosen = choose(compiled.graph, memory, batch=batch or 1, backend=backend)
    model, matched = initialise(compiled.graph, seed, init, skip=init_skip)
    policy = None if memory == "none" else asdict(chosen)
    files = model_directory.model_files(compiled, seed=seed, init=matched, memory=policy, note=note)
    record = model_directory.write_model_directory(directory, files, model)

    def show() -> None:
        print_summary(compiled.summary)
        if matched is not None:
            echo(f"weights     {matched}")
        if policy is not None:
            echo(f"memory      {chosen}")
        echo(f"written to  {directory}")

    return Answer(record, show)


def draw_command(
    specs: Annotated[tuple[str, ...], arg.SPEC],
    *,
    output: Annotated[Path | None, arg.Option("OUT.svg", parse=PICTURE)] = None,
    level: Literal["network", "stage", "block", "op", "neuron"] | None = None,
    theme: Literal["auto", "light", "dark"] = "auto",
    network: arg.Network | None = None,
    set: arg.Settings,
) -> None:
    """Draw a network's topology as SVG, PNG, PDF or .gv.

    Several specs show how they wire their blocks, side by side, as in `danetc draw origin_r18 sew_r18 -o
    figure.svg`.

    Args:
        output: File of the picture: .svg, .png, .pdf (needs danetc[plot]) or .gv. [default: NAME.svg
            beside the spec, or in this folder for a shipped spec]
        level: What is shown: stages; blocks and the input of each; the wiring of blocks; all
            operations; a neuron's equations over time. [default: stage]
        theme: Colours. An SVG in auto is light or dark as its viewer prefers.
    """
    from danetc.tasks.drawing import beside_spec, draw

    if len(specs) > 1 and output is None:
        raise click.UsageError("several specs need -o: a name for their picture")
    place = output or beside_spec(specs[0])
    draw(*specs, output=place, network=network, set=set, level=level, theme=theme)
    if output is None:
        echo(f"written to {place}")


def prove_command(
    spec: arg.Spec, *, network: arg.Network | None = None, set: arg.Settings, numbers: bool = True
) -> Answer:
    """Check the paper's propositions on a network.

    Propositions 1, 3 and 4 get a verdict for each stage: `holds`; `fails`, with the numbers of the
    counterexample; `does not apply`, with the broken premise; or `not checked`, since the verdict
    needs numbers (--no-numbers), or firing rates differ by less than their noise. For Proposition 2,
    the neurons on paths are counted.

    Propositions 1 and 4 are about gradients at T = 1 between blocks whose last norm starts at 0; with
    more time steps the reset and the leak add terms. Autograd in float64 checks their formulas, where
    g1 is the surrogate derivative of block 1. Proposition 4 is judged at the stage's result: its
    gradient by block 0 is compared with the part of the shortest paths, and with the gradient of the
    same blocks in a chain. Proposition 3 compares firing rates of the untrained stage on normal input,
    with norms that have seen two batches. Up to 1,000 blocks are checked.

    Exits with 0 if a proposition fails, and with 1 if autograd and a formula disagree, or the spec is
    wrong.

    Args:
        numbers: Check gradients and firing rates numerically. --no-numbers does not need torch.
    """
    from danetc.output.console import VisibleConsole
    from danetc.tasks.proofs import TITLES, prove

    graph = compile_spec(spec, network=network, settings=set).lowered.graph
    with VisibleConsole(sys.stderr).status("") as status:
        proof = prove(graph, status.update, numbers=numbers)

    def show() -> None:
        echo(
            f"{proof['network']}, T = {proof['steps']}; Propositions 1 and 4 are about T = 1 and last "
            "norms that start at 0"
        )
        for number, title in TITLES.items():
            echo(f"\nProposition {number}: {title}")
            rows = []
            for item in (each for each in proof["findings"] if each["proposition"] == number):
                comma = "," if item["verdict"] == "does not apply" else ":"
                rows.append((f"  {item['part']}", f"{item['verdict']}{comma} {item['says']}"))
            print_columns(rows)
        echo(
            "\nProposition 2: each neuron on a path multiplies the gradient by a surrogate derivative"
        )
        print_columns([(f"  {item['part']}", item["says"]) for item in proof["paths"]])

    return Answer(proof, show, int(not proof["agrees"]))


def equiv_command(
    left: Annotated[str, arg.Option("A")],
    right: Annotated[str, arg.Option("B")],
    *,
    networks: Annotated[tuple[str, ...], arg.Option("NAME", "--network")] = (),
    set: arg.Settings,
    numbers: bool = True,
) -> Answer:
    """Check whether two specs describe the same network.

    Names, the order of declarations and the notation of sums do not matter. The answer is `equal`,
    with the layers that correspond; `equal in numbers`, if the graphs differ but a training step in
    float64 on random input gives the same outputs and gradients; or `different`, with the first
    operation that differs and its place in both specs. --set applies to both.

    Exits with 0 if the networks are equal, with 1 if they differ or a spec is wrong (the error then
    says so), with 2 for wrong usage.

    Args:
        networks: Network to use from both files; given twice, that of A and that of B.
        numbers: If the graphs differ, compare a training step of both.
    """
    from danetc.compiler.analysis.equivalence import Different
    from danetc.output.console import VisibleConsole
    from danetc.tasks.equivalence import equivalence

    if len(networks) > 2:
        raise click.UsageError("-n is given once for both specs, or twice")
    names = (networks[0], networks[-1]) if networks else (None, None)
    graphs = [
        compile_spec(spec, network=name, settings=set).lowered.graph
        for spec, name in zip((left, right), names, strict=True)
    ]
    with VisibleConsole(sys.stderr).status("") as status:
        verdict = equivalence(*graphs, numbers=numbers, on_progress=status.update)

    def show() -> None:
        echo(f"{verdict.left.name} and {verdict.right.name}: {verdict.word}")
        if isinstance(verdict.found, Different):
            echo(verdict.found.reason)
            sides = (verdict.left, verdict.found.left), (verdict.right, verdict.found.right)
            for graph, node in sides:
                where = "everything has a counterpart"
                if node is not None:
                    where = f"{node.path}, {node.origin}"
                    for stage in graph.stages:
                        if node.scope[: len(stage.scope)] == stage.scope:
                            where += f" (via {stage.connection} by {stage.rule}, {stage.origin})"
                echo(f"  {graph.name}: {where}")
        else:
            pairs = verdict.pairs()
            renamed = [pair for pair in pairs if pair[0] != pair[1]]
            names = f"{len(renamed)} under other names" if renamed else "all under the same names"
            echo(f"{len(pairs)} layers with weights correspond, {names}")
            for a, b in renamed:
                echo(f"  {a} = {b}")
        if (seen := verdict.numbers) is not None:
            echo(
                f"a training step with the same weights (by {verdict.by}) in float64, T = "
                f"{verdict.left.steps}, input {' x '.join(map(str, seen.size))}:\n  outputs differ by "
                f"{seen.outputs:.1e}, gradients by {seen.gradients:.1e} of the largest"
            )
            if seen.same and seen.silent:
                more = f" and {len(seen.silent) - 1} more" if seen.silent[1:] else ""
                echo(
                    f"  which proves nothing: `{seen.silent[0]}`{more} did not take part (always or "
                    "never fires, or has no gradient)"
                )
        elif verdict.skipped is not None:
            echo(f"no numbers compared: {verdict.skipped}")

    return Answer(verdict.as_dict(), show, int(verdict.word == "different"))


def bench_command(
    spec: arg.Spec,
    *,
    network: arg.Network | None = None,
    set: arg.Settings,
    batch: arg.Count = 4,
    memory: arg.Memory = "none",
    rounds: arg.Count = 7,
    threads: arg.Count | None = None,
    device: arg.Device | None = None,
) -> Answer:
    """Measure time and memory of a network: a training step and a forward pass, eager and fused.

    Both backends are timed in interleaved rounds; medians of wall-clock time are reported. The peak
    memory is that of the tensors of a training step, computed as in `summary --batch` (measured on a
    GPU). benchmarks/ in the repository compares with SpikingJelly and torchvision.

    Args:
        rounds: Number of times that each is timed.
        threads: CPU threads. [default: torch's]
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    from danetc.output.console import VisibleConsole
    from danetc.runtime.system.devices import arithmetic, find_device
    from danetc.tasks.benchmark import bench

    place = find_device(device)
    graph = compile_spec(spec, network=network, settings=set).graph
    with VisibleConsole(sys.stderr).status("") as status, arithmetic("float32", place):
        found = bench(graph, batch, memory, rounds, threads, place, status.update)

    def show() -> None:
        size = " x ".join(map(str, found["size"]))
        echo(
            f"{found['network']}, T = {found['steps']}, N = {found['batch']}, {size}, float32, "
            f"{found['device']}, {found['threads']} thread{'s' * (found['threads'] != 1)}\n"
        )
        rows = [
            {
                "": each["backend"] + (f", {each['memory']}" * (each["memory"] != "none")),
                "step s": f"{each['step']:.4f}",
                "forward s": f"{each['forward']:.4f}",
                "first step s": f"{each['first']:.2f}",
                "peak MB": f"{each['peak'] / 1e6:.1f}",
            }
            for each in found["backends"]
        ]
        print_rows(rows)
        eager, fused = (each["step"] for each in found["backends"])
        echo(f"medians of interleaved rounds; fused / eager: {fused / eager:.2f}")

    return Answer(found, show)
