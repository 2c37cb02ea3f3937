"""Words, brackets and errors: what costs before anything is built."""

from __future__ import annotations

from tests.adversarial.parts import HEAD, Files, filled, network, spec, staged, times

# -- words and brackets ------------------------------------------------------------------------------


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


# -- errors ------------------------------------------------------------------------------------------


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
