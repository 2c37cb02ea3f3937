"""Texts that commands write, generated separately."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from danetc.compiler.emit.names import free
from danetc.compiler.emit.python.neurons import Neurons
from danetc.compiler.emit.python.prelude_parts import Prelude
from danetc.dsl.neuron.program import NeuronProgram
from danetc.runtime.model.weight_files import tensor_file
from danetc.runtime.system.files import replace_file


def save_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    replace_file(path, tensor_file(tensors))


def neuron_text(program: NeuronProgram) -> tuple[str, str]:
    """The name of a neuron's class, and the text of this class and of the classes that it needs."""
    prelude = Prelude()
    names = [*prelude.definitions]

    def claim(base: str) -> str:
        names.append(free(base, names.__contains__))
        return names[-1]

    neurons = Neurons(claim, set())
    label = neurons.instance(program, False, (1, 1, 1), 1).target
    needed, _ = prelude.chosen(neurons.used)
    return str(label), "\n\n\n".join([*needed, *neurons.classes])
