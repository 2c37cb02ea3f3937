"""Names that stand for much."""

from __future__ import annotations

from tests.adversarial.parts import BIG, doubled, filled, network, spec, staged


@spec
def layers_that_double(size: int) -> str:
    lines = doubled("{0} -> {0}", "conv(4) -> norm", 19)
    return "use std\n" + network(f"{lines}; out = in -> a19")


@spec
def nothing_that_doubles(size: int) -> str:
    lines = doubled("({0} -> {0} -> {0})", "identity", 18)
    return "use std\n" + network(f"{lines}; out = in -> a18 -> avgpool")


@spec
def values_that_double(size: int) -> str:
    return "use std\n" + network(doubled("{0} + {0}", "in", 60) + "; out = a60 -> avgpool")


@spec
def numbers_that_double(size: int) -> str:
    return "use std\n" + network(doubled("{0} + {0}", "1", 200) + "; out = in -> conv(a200)")


@spec
def blocks_that_double(size: int) -> str:
    lines = [f"block b{i} {{ out = in -> b{i - 1} -> b{i - 1} }}" for i in range(1, 18)]
    first = "use std\nblock b0 { out = in -> identity }\n"
    return first + "\n".join([*lines, network("out = in -> b17 -> avgpool")])


@spec
def backbones_that_double(size: int) -> str:
    lines = [f"backbone b{i} = b{i - 1} -> b{i - 1}" for i in range(1, 40)]
    return "\n".join(["use std\nbackbone b0 = stage(basic(4), 1)", *lines, staged("b39 via pa_a")])


@spec
def backbones_by_default(size: int) -> str:
    lines = [f"backbone b{i}(x = b{i - 1}, y = b{i - 1}) = x" for i in range(1, 40)]
    return "\n".join(["use std\nbackbone b0 = stage(basic(4), 1)", *lines, staged("b39 via pa_a")])


@spec
def blocks_by_default(size: int) -> str:
    lines = [f"block b{i}(x = b{i - 1}, y = b{i - 1}) = x -> y" for i in range(1, 40)]
    return "\n".join(["use std\nblock b0 = conv(4)", *lines, staged("stage(b39, 1) via pa_a")])


@spec
def numbers_of_two_numbers_each(size: int) -> str:
    params = ", ".join(f"p{i} = p{i - 1} + p{i - 2}" for i in range(2, 60))
    block = f"block b(p0 = 1, p1 = 1, {params}) {{ out = in -> conv(p59 / 2) }}\n"
    return f"use std\n{block}{network('out = in -> b')}"


@spec
def definitions_of_two_definitions_each(size: int) -> str:
    lines = "\n".join(f"d{i} = d{i - 1} + d{i - 2}" for i in range(2, 60))
    body = f"d0 = 1\nd1 = 1\n{lines}\nout = in -> b(d59) -> conv(d59 / 2)"
    return f"use std\nblock b(w) {{ out = in -> conv(w) }}\n{network(body)}"


@spec
def a_backbone_named_often(size: int) -> str:
    lines = filled(size, lambda i: f"a{i} = b")
    return f"use std\nbackbone b = {BIG}\n{network(f'{lines}; out = in -> avgpool')}"


@spec
def a_backbone_changed_often(size: int) -> str:
    changes = " with (neuron = IF)" * 190
    lines = filled(size, lambda i: f"backbone b{i + 1} = b{i}{changes}")
    return f"use std\nbackbone b0 = {BIG}\n{lines}\n{staged('b2 via pa_a')}"


@spec
def a_backbone_cut_often(size: int) -> str:
    lines = filled(size, lambda i: f"backbone b{i + 1} = b{i}{'[0 .. 999]' * 190}")
    return f"use std\nbackbone b0 = {BIG}\n{lines}\n{staged('b4 via pa_a')}"


@spec
def a_long_chain_of_definitions(size: int) -> str:
    lines = filled(size, lambda i: f"a{i + 1} = a{i}")
    return "use std\n" + network(f"a0 = 1; {lines}; out = in -> conv(4)")


@spec
def a_long_chain_of_values(size: int) -> str:
    lines = filled(size, lambda i: f"a{i + 1} = a{i} -> norm")
    return "use std\n" + network(f"a0 = in\n{lines}\nout = a{lines.count('=')} -> avgpool")


@spec
def a_long_chain_backwards(size: int) -> str:
    count = size // 25
    lines = "\n".join(f"a{i + 1} = a{i} -> norm" for i in reversed(range(count)))
    return "use std\n" + network(f"out = a{count} -> avgpool\n{lines}\na0 = in")


@spec
def a_chain_of_variants(size: int) -> str:
    lines = filled(size, lambda i: f"network n{i + 1} = n{i} {{ steps = {i % 4 + 1} }}")
    return f"use std\n{network('out = in -> avgpool', 'n0')}{lines}"


@spec
def variants_of_one(size: int) -> str:
    base = staged("resnet152 via pa_a by densely_additive", "base")
    return f"use std\n{base}{filled(size, lambda i: f'network n{i} = base')}"


@spec
def variants_with_many_parameters(size: int) -> str:
    params = filled(size // 3, lambda i: f"p{i} = {i}", ", ")
    base = network("out = in -> avgpool", "base", f"({params})")
    return f"use std\n{base}{filled(size // 2, lambda i: f'network n{i}(p99 = 1) = base')}"


@spec
def aliases_of_aliases(size: int) -> str:
    return "use std\n" + filled(size, lambda i: f"rule r{i} = {f'r{i - 1}' if i else 'chain'}")
