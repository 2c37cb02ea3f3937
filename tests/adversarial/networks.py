"""Networks and rules."""

from __future__ import annotations

from tests.adversarial.parts import filled, network, spec, staged, times

# -- networks ----------------------------------------------------------------------------------------


@spec
def a_network_of_10000_blocks(size: int) -> str:
    return f"use std\n{staged(f'stage(basic(4), {size // 10}) via origin')}"


@spec
def a_dense_network_of_10000_blocks(size: int) -> str:
    stages = " -> ".join(["stage(basic(8), 50)"] * (size // 500))
    return f"use std\n{staged(f'({stages}) via origin by densely_additive')}"


@spec
def a_network_of_10000_lines(size: int) -> str:
    lines = "\n".join(f"a{i + 1} = a{i} -> conv(4)" for i in range(size // 10))
    return "use std\n" + network(f"a0 = in\n{lines}\nout = a{size // 10} -> avgpool")


@spec
def deep_networks(size: int) -> str:
    stages = "stage(basic(4), 1000) via pa_a by densely_additive"
    return "use std\n" + filled(size // 3, lambda i: staged(stages, f"n{i}"))


@spec
def many_networks(size: int) -> str:
    return "use std\n" + filled(size, lambda i: staged("resnet18 via pa_a", f"n{i}"))


@spec
def many_small_networks(size: int) -> str:
    return "use std\n" + filled(size, lambda i: network("out = in -> avgpool", f"n{i}"))


@spec
def the_deepest_network(size: int) -> str:
    return f"use std\n{staged('stage(bottleneck(4), 100000) via pa_a')}"


@spec
def a_dense_stage_of_10000_blocks(size: int) -> str:
    return f"use std\n{staged('stage(basic(4), 10000) via pa_a by densely_additive')}"


@spec
def concatenations_of_all_blocks(size: int) -> str:
    return f"use std\n{staged('stage(dense(1), 1500) via dense_layer by densely_concatenated')}"


@spec
def many_stages(size: int) -> str:
    stages = filled(size, lambda i: "stage(basic(4), 9)", " -> ")
    return f"use std\n{staged(f'({stages}) via pa_a')}"


@spec
def a_block_of_many_definitions(size: int) -> str:
    lines = filled(size, lambda i: f"a{i + 1} = a{i} + i")
    last = lines.count("=")
    block = f"block b {{ a0 = 1\n{lines}\nout = in -> conv(4, stride = 1 if a{last} else 2) }}"
    return f"use std\n{block}\n{staged('stage(b, 10000)')}"


@spec
def a_block_of_many_parameters(size: int) -> str:
    params = filled(size, lambda i: f"p{i} = {i}", ", ")
    block = f"block b({params}) {{ out = in -> conv(4 if i > 0 else 4) }}"
    return f"use std\n{block}\n{staged('stage(b, 10000)')}"


@spec
def a_connection_of_many_parts(size: int) -> str:
    parts = filled(size, lambda i: f"p{i + 1} = p{i}", "; ")
    out = f"out = p{parts.count('=')} if i > 0 else branch"
    connection = f"connection c {{ each = spike -> conv -> norm; p0 = branch; {parts}; {out} }}"
    return f"use std\n{connection}\n{staged('stage(basic(4), 10000) via c')}"


@spec
def a_connection_of_long_choices(size: int) -> str:
    choice = "in if i == 0 else " * 60
    connection = f"connection c {{ each = spike -> conv -> norm; out = branch + ({choice}in) }}"
    return f"use std\n{connection}\n{staged('stage(basic(4), 5000) via c')}"


@spec
def many_outputs(size: int) -> str:
    lines = filled(size // 2, lambda i: f"a{i} = in -> avgpool")
    names = ", ".join(f"a{i}" for i in range(lines.count("=")))
    return "use std\n" + network(f"{lines}\nout = outputs({names})")


@spec
def many_kinds_of_neurons(size: int) -> str:
    layers = filled(size, lambda i: f" -> LIF(tau = {i + 2}.0)", "")
    return "use std\n" + network(f"out = in{layers} -> avgpool")


# -- rules -------------------------------------------------------------------------------------------


def nested(term: str, depth: int, high: str) -> str:
    for number in range(depth):
        term = f"sum({term} for j{number} in 0 .. {high})"
    return term


@spec
def nested_ranges(size: int) -> str:
    return f"use std\nrule r {{ in[i] = {nested('out[0]', 8, '20')}; result = out[n-1] }}"


@spec
def nested_ranges_with_conditions(size: int) -> str:
    term = nested("out[0]", 6, "100 if (i == 0 or i == 1) and i < 100000")
    return f"use std\nrule r {{ in[i] = sum(out[0], {term}); result = out[n-1] }}"


@spec
def a_range_that_is_never_taken(size: int) -> str:
    return "use std\nrule r { in[i] = sum(out[0] for j in 0 .. 1999999 if j < 1); result = out[0] }"


@spec
def many_rules_of_many_terms(size: int) -> str:
    body = "in[i] = sum(out[j] for j in 0 .. i-1 if j >= 0 and i > j); result = out[n-1]"
    return "use std\n" + filled(size, lambda i: f"rule r{i} {{ {body} }}")


@spec
def a_rule_of_long_conditions(size: int) -> str:
    condition = " or ".join(["i == j - 1000"] * 90)
    terms = filled(size, lambda i: f"out[j] for j in 0 .. i-1 if j == 0 or {condition}", ", ")
    return f"use std\nrule r {{ in[i] = sum({terms}); result = out[n-1] }}"


@spec
def a_rule_of_many_ranges(size: int) -> str:
    return f"rule r {{ in[i] = sum({times(size, 'out[0 .. i-1], ')}out[0]); result = out[n-1] }}"


@spec
def a_rule_with_large_numbers(size: int) -> str:
    ranges = f"out[0 .. {10**15}], out[j] for j in 0 .. {10**15}"
    return f"rule r {{ in[i] = sum({ranges}); result = out[n-1] }}"


@spec
def rules_of_deep_stages(size: int) -> str:
    rule = f"rule r {{ in[i] = {nested('out[0]', 2, '100')}; result = out[n-1] }}"
    return f"use std\n{rule}\n{staged('stage(basic(4), 10000) via pa_a by r')}"


@spec
def scaled_terms(size: int) -> str:
    term = "0.5 * (" * 40 + "out[0]" + ")" * 40
    rule = f"rule r {{ in[i] = {term}; result = out[n-1] }}"
    return f"use std\n{rule}\n{staged('stage(basic(4), 10000) via pa_a by r')}"
