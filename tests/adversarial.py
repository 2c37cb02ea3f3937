"""Specs that ask for much, each of another shape.

``SPECS`` maps a name to a function that makes the files of a spec, of which ``main.danet`` is the one
to check: about ``size`` characters, or so much more asked for in fewer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")
Files = Mapping[str, str]
Make = Callable[[int], str | Files]

HEAD = "input = image(3, 8, 8); steps = 2; neuron = IF; surrogate = sigmoid"
STEM = f"{HEAD}; stem = conv(4) -> norm"
TAIL = "head = avgpool -> mean_over_time -> linear(10)"
BIG = " -> ".join(["stage(basic(4), 1)"] * 1_000)
SPECS: dict[str, Callable[[int], Files]] = {}


def spec(make: Make) -> Make:
    """Add a function to the table, under its name."""

    def files(size: int) -> Files:
        made = make(size)
        return {"main.danet": made} if isinstance(made, str) else made

    SPECS[make.__name__] = files
    return make


def filled(size: int, line: Callable[[int], str], join: str = "\n") -> str:
    """As many lines as nine tenths of the size hold."""
    parts: list[str] = []
    length = 0
    while length < size * 9 // 10:
        parts.append(line(len(parts)))
        length += len(parts[-1]) + len(join)
    return join.join(parts)


def times(size: int, text: str) -> str:
    """A text as often as nine tenths of the size hold."""
    return text * (size * 9 // 10 // len(text))


def network(body: str, name: str = "n", params: str = "") -> str:
    return f"network {name}{params} {{ {HEAD}\n{body}\n}}\n"


def staged(stages: str, name: str = "n") -> str:
    return f"network {name} {{ {STEM}; stages = {stages}; {TAIL} }}\n"


def doubled(word: str, first: str, count: int) -> str:
    """Definitions a0 ... aN, each of the one before by a word that names it twice."""
    lines = [f"a0 = {first}"]
    lines += [f"a{i} = {word.format(f'a{i - 1}')}" for i in range(1, count + 1)]
    return "\n".join(lines)


# -- words and brackets ----------------------------------------------------------------------------


@spec
def a_long_number(size: int) -> str:
    return "use std\n" + network(f"out = in -> conv({times(size, '9')})")


@spec
def a_small_number(size: int) -> str:
    return "use std\n" + network(f"out = in -> conv(0.{times(size, '0')}1)")


@spec
def a_number_with_a_large_exponent(size: int) -> str:
    return "use std\n" + network(f"a = 1e{times(size, '9')}; out = in -> conv(a)")


@spec
def sizes_beyond_all(size: int) -> str:
    body = f"{HEAD}; out = in -> conv(1e308) -> conv({10**18})"
    return "use std\n" + filled(size, lambda i: f"network n{i} {{ {body} }}")


@spec
def a_long_name(size: int) -> str:
    return "use std\n" + network(f"out = in -> {times(size, 'a')}")


@spec
def a_long_string(size: int) -> str:
    return f'use "{times(size, "a")}.danet"'


@spec
def open_brackets(size: int) -> str:
    return "network n { out = " + times(size, "(")


@spec
def brackets_of_all_kinds(size: int) -> str:
    return "network n { out = " + times(size // 2, "f([{") + times(size // 2, "}])")


@spec
def signs_of_other_languages(size: int) -> str:
    return filled(size, lambda i: f"network n{i} {{ a := b && c ** d }}")


@spec
def numbers_with_many_points(size: int) -> str:
    return "network n { out = " + times(size, "1.") + "}"


@spec
def comments_of_other_languages(size: int) -> str:
    return times(size, "/*")


@spec
def only_signs(size: int) -> str:
    return times(size, "= -> { } ; , ")


@spec
def a_wrong_statement_a_line(size: int) -> str:
    return "network n {\n" + filled(size, lambda i: f"a{i} = = {i}") + "\n}"


@spec
def wrong_declarations_in_one_line(size: int) -> str:
    return filled(size, lambda i: f"neuron n{i} {{ s = ) }}", join=" ")


@spec
def unclosed_networks(size: int) -> str:
    return filled(size, lambda i: f"network n{i} {{ a = {i}")


@spec
def a_long_chain_of_minus(size: int) -> str:
    return "use std\n" + network(f"a = {times(size, '- ')}1; out = in -> conv(a)")


@spec
def a_long_chain_of_not(size: int) -> str:
    return "use std\n" + network(f"a = {times(size, 'not ')}1; out = in -> conv(4 if a else 8)")


@spec
def a_long_choice(size: int) -> str:
    return "use std\n" + network(f"a = {times(size, '1 if 0 else ')}1; out = in -> conv(a)")


@spec
def a_long_sum_of_numbers(size: int) -> str:
    return "use std\n" + network(f"a = {times(size, '1 + ')}1; out = in -> conv(a)")


@spec
def a_long_condition(size: int) -> str:
    return "use std\n" + network(f"a = 1 if {times(size, '1 and ')}1 else 2; out = in -> conv(a)")


@spec
def a_long_flow(size: int) -> str:
    return "use std\n" + network(f"out = in -> {times(size, 'norm -> ')}avgpool")


@spec
def a_long_sum_of_values(size: int) -> str:
    return "use std\n" + network("out = in" + times(size, " + in"))


@spec
def a_long_concatenation(size: int) -> str:
    return "use std\n" + network(f"out = concat({times(size, 'in, ')}in)")


@spec
def many_indices(size: int) -> str:
    return "use std\n" + staged(f"resnet18{times(size, '[0 .. 3]')} via pa_a")


@spec
def many_connections(size: int) -> str:
    return "use std\n" + staged(f"resnet18{times(size, ' via pa_a')}")


# -- errors ----------------------------------------------------------------------------------------


@spec
def close_names(size: int) -> str:
    lines = filled(size, lambda i: f"value_number_{i:04d} = valeu_number_{i:04d}")
    return "use std\n" + network(f"{lines}\nout = in -> avgpool")


@spec
def close_long_names(size: int) -> str:
    word = "abcdefghij" * 5
    lines = filled(size, lambda i: f"{word}{i:04d} = {word[::-1]}{i:04d}")
    return "use std\n" + network(f"{lines}\nout = in -> avgpool")


@spec
def close_settings(size: int) -> str:
    return "use std\n" + network(filled(size, lambda i: f"neruon{i} = 1") + "\nout = in")


@spec
def close_letters(size: int) -> str:
    known = filled(size // 2, lambda i: f"rule {'a' * 50}{i:06d} = chain")
    return known + filled(size // 2, lambda i: f"\nblock b{i} = {'b' + 'a' * 48}{i:06d}")


@spec
def unknown_names_in_one_line(size: int) -> str:
    return f"use std\nblock b {{ out = in{filled(size, lambda i: f' -> x{i}', join='')} }}"


@spec
def unknown_names_behind_a_syntax_error(size: int) -> str:
    lines = filled(size, lambda i: f"a{i:05d} = b{i:05d}")
    return "use std\nrule r { = }\n" + network(f"{lines}; out = in -> avgpool")


@spec
def unknown_arguments(size: int) -> str:
    lines = filled(size, lambda i: f"-> conv(4, kernl{i} = 3)", " ")
    return f"use std\nblock b {{ out = in {lines} }}"


@spec
def unknown_declarations(size: int) -> str:
    return "use std\n" + filled(size, lambda i: f"network n{i} = netwrok_{i:05d}")


@spec
def declared_twice(size: int) -> str:
    return times(size, "rule r = chain\n")


@spec
def parameters_defined_twice(size: int) -> str:
    return f"block b({times(size, 'aa, ')}aa) {{ out = in }}"


@spec
def many_arguments_of_one_name(size: int) -> str:
    return "use std\n" + network(f"out = in -> conv({times(size, 'width = 4, ')}width = 4)")


@spec
def names_taken_that_are_not_there(size: int) -> str:
    return f"use std ({filled(size, lambda i: f'LFI{i}', join=', ')})"


@spec
def files_that_are_not_there(size: int) -> str:
    return filled(size, lambda i: f'use "missing_{i}.danet"')


@spec
def two_files_of_the_same_names(size: int) -> Files:
    names = filled(size, lambda i: f"rule r{i} = r{i}")
    return {"main.danet": 'use "a.danet"\nuse "b.danet"', "a.danet": names, "b.danet": names}


@spec
def definitions_that_nothing_uses(size: int) -> str:
    return "use std\n" + network(filled(size, lambda i: f"a{i} = {i}") + "\nout = in -> avgpool")


@spec
def wrong_blocks_in_many_stages(size: int) -> str:
    stages = filled(size // 5, lambda i: "stage(b(4), 9)", " -> ")
    block = "block b(w) = conv(w / 3) -> conv(w)\n"
    return f"use std\n{block}{staged(f'({stages}) via pa_a')}"


# -- names that stand for much ---------------------------------------------------------------------


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


# -- networks --------------------------------------------------------------------------------------


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


# -- rules -----------------------------------------------------------------------------------------


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


# -- equations -------------------------------------------------------------------------------------


@spec
def many_neurons(size: int) -> str:
    body = "state u = 0.0; v = u + x; s = heaviside(v - 1); u = v * (1 - s)"
    return filled(size, lambda i: f"neuron n{i} {{ {body} }}")


@spec
def neurons_of_long_equations(size: int) -> str:
    lines = "; ".join(f"a{i} = a{i - 1} + exp(x * {i}.5)" for i in range(1, 150))
    return filled(size, lambda i: f"neuron n{i} {{ a0 = x; {lines}; s = a149 }}")


@spec
def neurons_whose_gradients_grow(size: int) -> str:
    lines = "; ".join(f"a{i} = max(a{i - 1} * a{i - 1}, exp(a{i - 1}))" for i in range(1, 250))
    return filled(size, lambda i: f"neuron n{i} {{ a0 = x; {lines}; s = a249 }}")


def chain_of_states(count: int, output: str) -> str:
    states = "; ".join(f"state u{i} = 0.0" for i in range(count))
    lines = "; ".join(f"u{i} = u{i + 1}" for i in range(count - 1))
    return f"{states}; s = {output}; {lines}; u{count - 1} = x"


@spec
def chains_of_states(size: int) -> str:
    return filled(size, lambda i: f"neuron n{i} {{ {chain_of_states(300, 'u0')} }}")


@spec
def a_chain_of_states_in_each_block(size: int) -> str:
    neuron = f"neuron c {{ {chain_of_states(300, 'heaviside(u0 + x)')} }}"
    stages = staged("stage(basic(4), 5000) via pa_a by densely_additive")
    return f"use std\n{neuron}\n{stages.replace('neuron = IF', 'neuron = c')}"


@spec
def surrogates_of_long_equations(size: int) -> str:
    lines = "; ".join(f"a{i} = a{i - 1} * sigmoid(x + {i})" for i in range(1, 100))
    return filled(size, lambda i: f"surrogate n{i} {{ a0 = x; {lines}; y = a99 }}")


@spec
def powers_of_sums(size: int) -> str:
    lines = "; ".join(f"a{i} = (a{i - 1} + x) * (a{i - 1} - x)" for i in range(1, 300))
    return filled(size, lambda i: f"neuron n{i} {{ a0 = x; {lines}; s = a299 }}")


@spec
def many_learnt_parameters(size: int) -> str:
    learnt = "; ".join(f"w{i} = w{i - 1} + learn(1.0) * x" for i in range(1, 200))
    return filled(size, lambda i: f"neuron n{i} {{ w0 = x; {learnt}; s = w199 }}")


@spec
def comparisons_in_comparisons(size: int) -> str:
    equation = "(" * 90 + "x" + " > 0)" * 90
    return filled(size, lambda i: f"neuron n{i} {{ s = {equation} + x }}")


@spec
def choices_in_choices(size: int) -> str:
    lines = [f"a{i} = a{i - 1} if a{i - 1} > x else a{i - 1} * x" for i in range(1, 240)]
    return filled(size, lambda i: f"neuron n{i} {{ a0 = x; {'; '.join(lines)}; s = a239 }}")


# -- recipes ---------------------------------------------------------------------------------------


@spec
def many_recipes(size: int) -> str:
    return filled(size, lambda i: f"recipe r{i} {{ epochs = 1; optimizer = sgd(lr = 0.1) }}")


@spec
def a_recipe_of_many_phases(size: int) -> str:
    phases = filled(size, lambda i: f"phase p{i} {{ epochs = {i + 1} }}")
    return f"recipe r {{ optimizer = sgd(lr = 0.1); {phases} }}"


@spec
def phases_that_share_a_long_number(size: int) -> str:
    number = "max(" + "1, " * 3_000 + "1)"
    phases = filled(size, lambda i: f"phase p{i} {{ warmup = 0 }}")
    return f"recipe r {{ optimizer = sgd(lr = 0.1); epochs = {number}; {phases} }}"


@spec
def recipes_of_wrong_settings(size: int) -> str:
    return f"recipe r {{ {filled(size, lambda i: f'epohcs{i} = 1', join='; ')} }}"


@spec
def a_long_schedule(size: int) -> str:
    steps = filled(size, lambda i: str(i + 1), ", ")
    return f"recipe r {{ epochs = 90000; optimizer = sgd(lr = 0.1); schedule = step({steps}) }}"


@spec
def a_long_augmentation(size: int) -> str:
    flips = times(size, "horizontal_flip -> ")
    return f"recipe r {{ epochs = 1; optimizer = sgd(lr = 0.1); augment = {flips}cutout(4) }}"


# -- files -----------------------------------------------------------------------------------------


@spec
def files_that_use_all_others(size: int) -> Files:
    count = 45

    def file(i: int) -> str:
        uses = [f'use "f{j}.danet"' for j in range(i + 1, count)]
        return "\n".join([*uses, filled(size // 20, lambda j: f"rule r{i}_{j} = r{i}_{j}")])

    files = {f"f{i}.danet": file(i) for i in range(count)}
    return {"main.danet": "\n".join(f'use "f{i}.danet"' for i in range(count)), **files}


@spec
def a_chain_of_files(size: int) -> Files:
    files = {f"f{i}.danet": f'use "f{i + 1}.danet"' for i in range(100)}
    return {"main.danet": 'use "f0.danet"', **files}


@spec
def one_file_used_often(size: int) -> Files:
    names = filled(size, lambda i: f"rule r{i} = r{i}")
    return {"main.danet": times(size, 'use "a.danet"\n'), "a.danet": names}


@spec
def the_library_used_often(size: int) -> str:
    return times(size, "use std\n")


# -- warnings --------------------------------------------------------------------------------------


@spec
def many_allowances(size: int) -> str:
    return filled(size, lambda i: f"# allow W0103\nblock b{i}(w) {{ out = in }}")


@spec
def parameters_that_nothing_reads(size: int) -> str:
    return f"block b({filled(size, lambda i: f'p{i} = {i}', join=', ')}) {{ out = in }}"


@spec
def a_neuron_of_dense_states(size: int) -> str:
    count = 60
    states = "; ".join(f"state u{i} = 0.5" for i in range(count))
    everything = " + ".join(f"0.01 * u{i}" for i in range(count))
    lines = "; ".join(f"u{i} = e + x" for i in range(count))
    spikes = " + ".join(f"heaviside(e + x - {i})" for i in range(4))
    neuron = f"neuron c {{ {states}; e = {everything}; s = {spikes}; {lines} }}"
    body = "steps = 64; out = in -> c -> avgpool"
    head = "input = events(3, 8, 8, 1); surrogate = sigmoid"
    return f"use std\n{neuron}\nnetwork n {{ {head}; {body} }}"


# -- at random -------------------------------------------------------------------------------------


class Wild:
    """A spec of pieces put together at random: most are wrong, and some ask for much.

    A piece that was made is often repeated, many times over, for that is what costs.
    """

    NUMBERS = ("0", "1", "2", "3", "64", "200", "1000", "20000", f"{10**18}", "1e308", "0.5", "-1")
    LAYERS = ("norm", "spike", "identity", "dropout(0.5)", "conv(4)", "maxpool(3, stride = 1)")
    BLOCKS = ("basic(4)", "bottleneck(1)", "basic(4, stride = 1)")
    CONNECTIONS = ("origin", "pa_a", "sew", "ms", "dense_layer", "tdbn")
    RULES = ("chain", "densely_additive", "densely_concatenated", "window(3)", "powers_of_two")
    NEURONS = ("IF", "LIF", "PLIF", "ReLU", "LIF(tau = 4.0)")

    def __init__(self, random: Random, size: int) -> None:
        self.random = random
        self.size = size
        self.names: dict[str, list[str]] = {}

    def text(self) -> str:
        kinds = (self.network, self.block, self.backbone, self.connection, self.rule, self.neuron)
        parts = ["use std"]
        while sum(map(len, parts)) < self.size // 2:
            part = self.pick(kinds)()
            copies = self.random.choice((1, 1, 1, 3, 30, 300))
            for _ in range(copies):
                if sum(map(len, parts)) + len(part) < self.size:
                    name = f"n{len(parts)}"
                    parts.append(part.replace("NAME", name))
                    self.names.setdefault(part.split()[0], []).append(name)
        return "\n".join(parts)

    def pick(self, choices: Sequence[T]) -> T:
        return self.random.choice(choices)

    def one_of(self, kind: str, known: Sequence[str]) -> str:
        own = self.names.get(kind, [])
        return self.pick(own) if own and self.random.random() < 0.6 else self.pick(known)

    def often(self, make: Callable[[], str], join: str) -> str:
        """One piece many times, or many pieces."""
        count = self.random.choice((1, 1, 2, 3, 10, 60))
        first = make()
        count = min(count, 1 + 2000 // len(first))
        if self.random.random() < 0.5:
            return join.join([first] * count)
        return join.join([first, *(make() for _ in range(min(count, 4) - 1))])

    def number(self, depth: int = 0, names: Sequence[str] = ()) -> str:
        match self.random.randrange(8 if depth < 5 else 2):
            case 0:
                return self.pick(self.NUMBERS)
            case 1 if names:
                return self.pick(names)
            case 2:
                return f"({self.often(lambda: self.number(depth + 1, names), ' + ')})"
            case 3:
                return f"max({self.often(lambda: self.number(depth + 1, names), ', ')}, 1)"
            case 4:
                then, test, other = (self.number(depth + 1, names) for _ in range(3))
                return f"({then} if {test} > 0 else {other})"
            case 5:
                return f"({self.number(depth + 1, names)} * {self.number(depth + 1, names)})"
            case 6:
                return f"floor({self.number(depth + 1, names)} / 2)"
            case _:
                return self.pick(("1", "2", "4", "8", "40", "300"))

    def layer(self, depth: int = 0) -> str:
        match self.random.randrange(6 if depth < 4 else 3):
            case 0:
                return self.pick(self.LAYERS)
            case 1:
                width = self.pick(("4", "4", "4", self.number(3)))
                return f"conv({width}, kernel = {self.pick((1, 3))})"
            case 2:
                return self.one_of("neuron", self.NEURONS)
            case 3:
                return f"({self.often(lambda: self.layer(depth + 1), ' -> ')})"
            case 4:
                return self.one_of("block", self.LAYERS)
            case _:
                return self.stages(depth + 1)

    def stages(self, depth: int = 0) -> str:
        match self.random.randrange(5 if depth < 4 else 2):
            case 0:
                return f"stage({self.one_of('block', self.BLOCKS)}, {self.number(3)})"
            case 1:
                return self.one_of("backbone", ("resnet18", "densenet121", "resnet152"))
            case 2:
                return f"({self.often(lambda: self.stages(depth + 1), ' -> ')})"
            case 3:
                return f"({self.stages(depth + 1)})[0 .. {self.pick(('0', '0', '1', '3'))}]"
            case _:
                neuron = self.one_of("neuron", self.NEURONS)
                return f"({self.stages(depth + 1)}) with (neuron = {neuron})"

    def wired(self) -> str:
        connection = self.one_of("connection", self.CONNECTIONS)
        return f"({self.stages()}) via {connection} by {self.one_of('rule', self.RULES)}"

    def definitions(self, value: Callable[[Sequence[str]], str], first: str) -> tuple[str, str]:
        """Lines that read the lines before them, and the last of their names."""
        names = [first]
        lines = []
        for i in range(self.random.choice((1, 3, 20, 100))):
            lines.append(f"a{i} = {value(names[-2:])}")
            names.append(f"a{i}")
        return "\n".join(lines), names[-1]

    def flow(self, names: Sequence[str]) -> str:
        a, b = names[0], names[-1]
        joined = self.pick((f"({a} + {b})", f"max({a}, {b})", f"((1 - {a}) * {b})", b))
        return f"{joined} -> {self.layer(2)}"

    def network(self) -> str:
        if self.names.get("network") and self.random.random() < 0.3:
            return (
                f"network NAME = {self.pick(self.names['network'])} {{ steps = {self.number(3)} }}"
            )
        if self.random.random() < 0.5:
            return f"network NAME {{ {STEM}; stages = {self.wired()}; {TAIL} }}"
        lines, last = self.definitions(self.flow, "in")
        return f"network NAME {{ {HEAD}\n{lines}\nout = {last} }}"

    def block(self) -> str:
        count = self.random.choice((0, 1, 20))
        params = ", ".join(f"p{i} = {self.number(3)}" for i in range(count))
        lines, last = self.definitions(self.flow, "in")
        return f"block NAME({params}) {{ {lines}\nout = {last} }}"

    def backbone(self) -> str:
        return f"backbone NAME(x = {self.stages()}, y = {self.stages(3)}) = {self.stages()}"

    def connection(self) -> str:
        each = f"{self.often(lambda: self.pick(self.LAYERS), ' -> ')} -> conv"
        out = f"(branch + shortcut) -> {self.layer(3)}"
        return f"connection NAME {{ each = {each}; projection = conv; out = {out} }}"

    def term(self, depth: int = 0, names: Sequence[str] = ("i", "n")) -> str:
        match self.random.randrange(4 if depth < 5 else 2):
            case 0:
                return f"out[max(0, min(i - 1, {self.number(3, names)}))]"
            case 1:
                return f"out[0 .. {self.pick(('i - 1', 'max(0, i - 2)'))}]"
            case 2:
                name = f"j{depth}"
                inner = self.term(depth + 1, (*names, name)).replace("out[0 ..", "in[0 ..")
                test = self.number(3, (*names, name))
                return f"sum({inner} for {name} in 0 .. {self.number(3, names)} if {test} > 0)"
            case _:
                join = self.pick(("sum", "max", "concat"))
                return f"{join}({self.often(lambda: self.term(depth + 1, names), ', ')})"

    def rule(self) -> str:
        return (
            f"rule NAME {{ in[i] = sum({self.term()}); result = sum({self.term()}, out[n - 1]) }}"
        )

    def equation(self, names: Sequence[str]) -> str:
        a, b = names[0], names[-1]
        return self.pick(
            (f"{a} * {b} + x", f"exp({a}) - {b}", f"max({a}, {b})", f"heaviside({a} - {b})",
             f"{a} if {b} > x else {b}", f"sigmoid({a} * {b})", f"{b} / ({a} * {a} + 1)")
        )  # fmt: skip

    def neuron(self) -> str:
        states = self.random.choice((0, 1, 5, 50))
        lines, last = self.definitions(self.equation, "x")
        first = "".join(f"state u{i} = 0.5\n" for i in range(states))
        after = "".join(f"u{i} = u{(i + 1) % states} + {last}\n" for i in range(states))
        reads = "".join(f" + u{i}" for i in range(states))
        return f"neuron NAME {{ {first}{lines}\ns = heaviside({last}{reads})\n{after} }}"


def wild(seed: int, size: int) -> Files:
    """A spec at random, the same for each seed."""
    return {"main.danet": Wild(Random(seed), size).text()}
