"""Segments of a network that keep their inputs alone and run again in the backward pass.

Under the policy ``recompute`` a scope runs its nodes segment by segment. What autograd would keep
of a segment is dropped but for what is small: parameters, statistics per channel, and spikes and
counts in bits. When the backward pass first asks for something dropped, the segment runs once
more. The graph of autograd is that of the policy ``none``, so that outputs, gradients and buffers
are the same bit for bit.

The second run sees the random state, autocast and the buffers' values of the first, and writes to
no buffer. Neurons whose output is whole-numbered note it in bits at the first run and do not
compute it again (``Tape``).
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.autograd.graph import saved_tensors_hooks

from danetc.dsl.kinds import ANALOG, Kind
from danetc.runtime.kernels.bit_packing import Kept
from danetc.runtime.kernels.torch_internals import constant
from danetc.runtime.layers.statistics import Affine
from danetc.runtime.model.built import ScopeModule

SEGMENT = "segment"
"""The key in a node's meta that holds the ``Segment`` it belongs to."""
KIND = "kind"
"""The key in a node's meta that says what is known of its value, which may be kept in bits."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment by its number. ``random`` says that it draws random numbers in training."""

    index: int
    random: bool = False


class Output:
    """A layer's output in bits, to be given again at the second run.

    It is packed by who keeps it first: the layer that reads it, or else ``settle(force=True)``.
    """

    __slots__ = ("_fresh", "_kept", "_packed")

    def __init__(self, x: Tensor, kind: Kind) -> None:
        self._kept = Kept(x, kind)
        self._fresh: Tensor | None = x  # not detached: its bits are remembered with it
        self._packed: Tensor | None = None

    @staticmethod
    def of(x: Tensor, kind: Kind) -> Output | None:
        """None where ``x`` is not kept in bits: it is computed again."""
        return Output(x, kind) if kind.bits else None

    def settle(self, force: bool) -> None:
        """Let go of the values themselves, once their bits are there."""
        if self._fresh is not None:
            bits = self._kept.keep(self._fresh) if force else self._kept.known(self._fresh)
            if bits is not None:
                self._fresh, self._packed = None, bits

    def forget(self) -> None:
        """Nobody reads it at the second run."""
        self._fresh = self._packed = None

    def restore(self, like: Tensor, shape: Sequence[int]) -> Tensor:
        """The output again, or any tensor of its shape where nobody reads it."""
        return like.new_empty(shape) if self._packed is None else self._kept.restore(self._packed)


@dataclass(frozen=True, slots=True)
class Note:
    """What a fused neuron notes: what each norm does, and its output."""

    affines: list[Affine]
    output: Output | None


class Tape:
    """What layers note at the first run of a segment, to be read in order at the second.

    ``saved`` counts the tensors that autograd wanted to keep so far.
    """

    def __init__(self) -> None:
        self.notes: list[Note] = []
        self.replaying = False
        self.saved = 0
        self._place = 0
        self._saved_at_last = -1

    def write(self, note: Note) -> None:
        self.settle(force=True)
        self.notes.append(note)
        self._saved_at_last = self.saved

    def settle(self, force: bool = False) -> None:
        """Have the last output in bits, where they are there or by ``force``."""
        if self.notes and self.notes[-1].output is not None:
            self.notes[-1].output.settle(force)

    def read(self) -> Note:
        self._place += 1
        return self.notes[self._place - 1]

    def rewind(self) -> None:
        """Start the second run."""
        self.replaying, self._place = True, 0

    def finish(self) -> None:
        """End the first run. What the last layer gave is read by nobody if nothing is wanted of
        what comes after it: the second run ends there."""
        last = self.notes[-1].output if self.notes else None
        if last is not None and self._saved_at_last == self.saved:
            last.forget()
        self.settle(force=True)


_local = threading.local()


def tape() -> Tape | None:
    """The tape of the segment that runs now in this thread, if one does."""
    return getattr(_local, "tape", None)


@contextmanager
def _with_tape(tape: Tape) -> Iterator[None]:
    outer = getattr(_local, "tape", None)
    _local.tape = tape
    try:
        yield
    finally:
        _local.tape = outer


class _AllFound(Exception):
    """The second run has given all that was asked for."""


class _Slot(NamedTuple):
    """What autograd holds in place of a dropped tensor."""

    frame: _Frame
    place: int


Run = Callable[[Sequence[Any]], tuple[Any, ...]]


class _Frame:
    """One forward pass through a segment: what it needs to run again."""

    def __init__(
        self, run: Run, inputs: Sequence[Any], kinds: Sequence[Kind], modules: Sequence[nn.Module]
    ) -> None:
        self.run = run
        self.modules = modules
        self.weights = {p.data_ptr() for module in modules for p in module.parameters()}
        self.inputs = [_keep(value, kind) for value, kind in zip(inputs, kinds, strict=True)]
        self.tape = Tape()
        self.sizes: list[tuple[torch.Size, torch.dtype]] = []
        self.found: dict[int, Tensor] = {}
        devices = {"cpu"} | {x.device.type for x in inputs if isinstance(x, Tensor)}
        self.autocast = [
            (
                device,
                torch.is_autocast_enabled(device),
                torch.get_autocast_dtype(device),
                torch.is_autocast_cache_enabled(),
            )
            for device in sorted(devices)
            if torch.amp.is_autocast_available(device)
        ]
        self.random: Tensor | None = None
        self.random_cuda: dict[torch.device, Tensor] = {}

    def note_random(self, inputs: Sequence[Any]) -> None:
        """Keep the state of the random numbers that the segment is about to draw."""
        self.random = torch.get_rng_state()
        places = {x.device for x in inputs if isinstance(x, Tensor) and x.device.type == "cuda"}
        self.random_cuda = {place: torch.cuda.get_rng_state(place) for place in places}

    def pack(self, x: Tensor) -> Tensor | _Slot:
        """What autograd holds for ``x``: itself where it is small, else a slot."""
        self.tape.settle()
        if self._is_small(x):
            return x
        self.sizes.append((x.shape, x.dtype))
        self.tape.saved += 1
        return _Slot(self, len(self.sizes) - 1)

    def _is_small(self, x: Tensor) -> bool:
        """Whether dropping a tensor would gain nothing: weights, vectors, values in bits."""
        return x.dim() <= 1 or x.dtype == torch.uint8 or x.data_ptr() in self.weights

    @staticmethod
    def unpack(held: Tensor | _Slot) -> Tensor:
        if isinstance(held, Tensor):
            return held
        if held.place not in held.frame.found:
            held.frame.replay()
        return held.frame.found.pop(held.place)

    def replay(self) -> None:
        """Run the segment again and catch what autograd would have kept of it."""
        self.found.clear()
        place = 0

        def catch(x: Tensor) -> None:
            nonlocal place
            if self._is_small(x):
                return
            if place >= len(self.sizes) or self.sizes[place] != (x.shape, x.dtype):
                raise RuntimeError(
                    "a segment saved other tensors when it ran again for the backward pass: "
                    "change neither the mode (train, eval) nor the modules in between"
                )
            self.found[place] = x.detach()
            place += 1
            if place == len(self.sizes):
                raise _AllFound

        self.tape.rewind()
        with ExitStack() as stack:
            for device, enabled, dtype, cached in self.autocast:
                stack.enter_context(torch.autocast(device, dtype, enabled, cached))
            stack.enter_context(self._random_state())
            stack.enter_context(_buffers_kept(self.modules))
            stack.enter_context(_with_tape(self.tape))
            stack.enter_context(torch.enable_grad())
            stack.enter_context(saved_tensors_hooks(catch, _not_asked))
            stack.enter_context(suppress(_AllFound))
            self.run([restore() for restore in self.inputs])
        if place < len(self.sizes):
            raise RuntimeError(
                f"a segment saved {place} tensors when it ran again, and {len(self.sizes)} before: "
                "change neither the mode (train, eval) nor the modules in between"
            )

    @contextmanager
    def _random_state(self) -> Iterator[None]:
        if self.random is None:
            yield
            return
        with torch.random.fork_rng(devices=list(self.random_cuda)):
            torch.set_rng_state(self.random)
            for place, state in self.random_cuda.items():
                torch.cuda.set_rng_state(state, place)
            yield


def _not_asked(held: Any) -> Tensor:
    raise AssertionError("nothing goes back through the second run of a segment")


def _keep(value: Any, kind: Kind) -> Callable[[], Any]:
    """Keep an input of a segment, in bits where its kind says so, and give it back."""
    if not isinstance(value, Tensor):
        return lambda: value
    needs = value.requires_grad
    kept = Kept(value, kind)
    held = kept.keep(value if kept.packs else value.detach())

    def restore() -> Tensor:
        x = kept.restore(held).detach()
        if kept.packs:
            kept.remember(x, held)
        return x.requires_grad_(needs)

    return restore


@contextmanager
def _buffers_kept(modules: Sequence[nn.Module]) -> Iterator[None]:
    """Have ``modules`` work on copies of their buffers."""
    owners = {module for top in modules for module in top.modules()}
    originals = [(module, dict(module.named_buffers(recurse=False))) for module in owners]
    try:
        for module, buffers in originals:
            for name, buffer in buffers.items():
                setattr(module, name, buffer.clone())
        yield
    finally:
        for module, buffers in originals:
            for name, buffer in buffers.items():
                setattr(module, name, buffer)


def recomputed(
    run: Run,
    inputs: Sequence[Any],
    kinds: Sequence[Kind],
    modules: Sequence[nn.Module],
    random: bool,
) -> tuple[Any, ...]:
    """``run(inputs)``, keeping the inputs alone, in bits where their ``kinds`` are kept so.

    ``modules`` are those that it calls.
    """
    frame = _Frame(run, inputs, kinds, modules)
    if random:
        frame.note_random(inputs)
    with _with_tape(frame.tape), saved_tensors_hooks(frame.pack, frame.unpack):
        outputs = run(inputs)
    frame.tape.finish()
    return outputs


class _Piece:
    """Consecutive nodes of a scope's graph that run as one: a segment, or what is in none."""

    def __init__(self, nodes: Sequence[fx.Node], segment: Segment | None) -> None:
        members = set(nodes)
        self.nodes = tuple(nodes)
        self.segment = segment
        reads = {source: None for node in nodes for source in node.all_input_nodes}
        self.inputs = tuple(source for source in reads if source not in members)
        self.outputs = tuple(n for n in nodes if any(user not in members for user in n.users))
        self.kinds: tuple[Kind, ...] = tuple(s.meta.get(KIND, ANALOG) for s in self.inputs)
        # Values that nobody reads after a node, to be forgotten there.
        last: dict[fx.Node, fx.Node] = {}
        for node in nodes:
            last[node] = node
            for source in node.all_input_nodes:
                last[source] = node
        self.done: dict[fx.Node, list[fx.Node]] = {node: [] for node in nodes}
        for source, node in last.items():
            if source not in self.outputs:
                self.done[node].append(source)
        self.targets = tuple(str(n.target) for n in nodes if n.op == "call_module")

    def run(self, scope: nn.Module, values: Sequence[Any]) -> tuple[Any, ...]:
        """The outputs, given the inputs."""
        known: dict[fx.Node, Any] = dict(zip(self.inputs, values, strict=True))
        del values
        for node in self.nodes:
            args = fx.node.map_arg(node.args, known.__getitem__)
            kwargs = fx.node.map_arg(node.kwargs, known.__getitem__)
            match node.op:
                case "call_module":
                    known[node] = scope.get_submodule(str(node.target))(*args, **kwargs)
                case "call_function":
                    assert callable(node.target)
                    known[node] = node.target(*args, **kwargs)
                case "call_method":
                    known[node] = getattr(args[0], str(node.target))(*args[1:], **kwargs)
                case op:
                    raise ValueError(f"a scope has no {op} in the middle")
            del args, kwargs
            for source in self.done[node]:
                del known[source]
        return tuple(known[node] for node in self.outputs)


class _Plan:
    """A scope's graph, cut where segments begin and end."""

    def __init__(self, graph: fx.Graph) -> None:
        self.graph = graph
        self.inputs = tuple(node for node in graph.nodes if node.op == "placeholder")
        self.output = graph.output_node()
        nodes = [node for node in graph.nodes if node.op not in ("placeholder", "output")]
        self.pieces = tuple(
            _Piece(tuple(run), segment)
            for segment, run in groupby(nodes, lambda node: node.meta.get(SEGMENT))
        )
        last = {source: piece for piece in self.pieces for source in piece.inputs}
        # Values to be forgotten when a piece starts: nobody reads them later.
        self.done = {
            piece: [source for source in piece.inputs if last[source] is piece]
            for piece in self.pieces
        }
        kept = set(self.output.all_input_nodes)
        self.done = {p: [n for n in done if n not in kept] for p, done in self.done.items()}


@constant
def _notice_plain(what: str) -> bool:
    """Say that the policy has no effect; to be called for its side effect alone."""
    _say_plain(what)
    return True


@lru_cache(maxsize=8)
def _say_plain(what: str) -> None:
    """Said once."""
    warnings.warn(
        f"the memory policy `recompute` has no effect in what {what} makes of a model: nothing "
        "runs again there by our plan. Call the model itself to keep little (the backend `fused` "
        "compiles its kernels), or build it with memory='none'",
        RuntimeWarning,
        stacklevel=5,
    )


class Recomputed(ScopeModule):
    """A scope that runs by segments, marked in the meta of its graph's nodes.

    Where no gradients are wanted, it is a plain scope. So it is, with a notice, where fx traces and
    where torch.compile or torch.export take the whole model: what they make of it keeps what its
    backward pass needs, or what their compiler chooses.
    """

    def __call__(self, *inputs: Any) -> Any:
        if torch.compiler.is_compiling() or not torch.is_grad_enabled():
            return super().__call__(*inputs)
        if any(isinstance(value, fx.Proxy) for value in inputs):
            _notice_plain("torch.fx")
            return super().__call__(*inputs)
        return self._run(inputs)

    def _call_impl(self, *args: Any, **kwargs: Any) -> Any:
        """What a plain call comes to, and where torch.compile begins: it does not see the above.

        (A torch that calls it otherwise compiles the same, without the notice.)
        """
        if torch.compiler.is_compiling() and torch.is_grad_enabled():
            _notice_plain("torch.export" if torch.compiler.is_exporting() else "torch.compile")
        return super()._call_impl(*args, **kwargs)

    def __deepcopy__(self, memo: dict[int, Any]) -> ScopeModule:
        self.__dict__.pop("_plan", None)  # it is made of this graph's nodes
        return super().__deepcopy__(memo)

    def __reduce__(self) -> tuple[Any, ...]:
        self.__dict__.pop("_plan", None)
        return super().__reduce__()

    def _run(self, inputs: tuple[Any, ...]) -> Any:
        plan: _Plan | None = self.__dict__.get("_plan")
        if plan is None or plan.graph is not self.graph:
            plan = self.__dict__["_plan"] = _Plan(self.graph)
        known: dict[fx.Node, Any] = dict(zip(plan.inputs, inputs, strict=True))
        del inputs
        for piece in plan.pieces:
            values = [known[source] for source in piece.inputs]
            for source in plan.done[piece]:
                del known[source]
            known.update(zip(piece.outputs, self._run_piece(piece, values), strict=True))
        return fx.node.map_arg(plan.output.args[0], known.__getitem__)

    def _run_piece(self, piece: _Piece, values: list[Any]) -> tuple[Any, ...]:
        if piece.segment is None:
            return piece.run(self, values)
        modules = [self.get_submodule(target) for target in piece.targets]
        return recomputed(
            lambda given: piece.run(self, given),
            values,
            piece.kinds,
            modules,
            piece.segment.random,
        )
