"""Templates of specs that ask for much work: ``«piece»`` is repeated until the size is reached.

``«60:piece»`` is repeated 60 times, ``«/3:piece»`` until a third of the size is reached; ``~`` after
the colon reverses the order. In a piece, ``%`` is the number of the repetition, from 0 on (``%+1`` and
``%-1`` its neighbours, ``%%`` with five digits); outside of all pieces it is their count.
"""

import re
from collections.abc import Callable, Mapping
from functools import partial

Files = Mapping[str, str]

HEAD = "input = image(3, 8, 8); steps = 2; neuron = IF; surrogate = sigmoid"
STEM = f"{HEAD}; stem = conv(4) -> norm"
TAIL = "head = avgpool -> mean_over_time -> linear(10)"
STD = "use std\n"
BIG = "backbone b0 = «999:stage(basic(4), 1) -> »stage(basic(4), 1)\n"
FIRST = "use std\nbackbone b0 = stage(basic(4), 1)\n"


def network(body: str, name: str = "n") -> str:
    return f"network {name} {{ {HEAD}\n{body}\n}}\n"


def staged(stages: str, name: str = "n") -> str:
    return f"network {name} {{ {STEM}; stages = {stages}; {TAIL} }}\n"


def net(body: str) -> str:
    return STD + network(body)


def rule(body: str, stages: str = "") -> str:
    return f"use std\nrule r {{ in[i] = {body}; result = out[n-1] }}\n{stages and staged(stages)}"


def nested(term: str, depth: int, high: str) -> str:
    for number in range(depth):
        term = f"sum({term} for j{number} in 0 .. {high})"
    return term


def neurons(lines: str, last: str) -> str:
    return f"«neuron n% {{ a0 = x; {lines}s = {last} }}\n»"


def states(count: int, output: str) -> str:
    shift = f"«{count - 1}:u% = u%+1; »u{count - 1} = x"
    return f"«{count}:state u% = 0.0; »s = {output}; {shift}"


def filled(text: str, size: int) -> str:
    """A template with its pieces repeated, the innermost first."""
    count = 0

    def numbered(piece: str, number: int) -> str:
        piece = piece.replace("%%", f"{number:05d}")
        return re.sub(r"%([+-]\d+)?", lambda m: str(number + int(m[1] or 0)), piece)

    def repeated(match: re.Match[str]) -> str:
        nonlocal count
        fixed, share, order, piece = match.groups()
        parts: list[str] = []
        length, limit = 0, size * 9 // 10 // int(share or 1)
        while len(parts) < int(fixed) if fixed else length < limit:
            parts.append(numbered(piece, len(parts)))
            length += len(parts[-1])
        count = len(parts)
        return "".join(reversed(parts) if order else parts)

    text = re.sub(r"size/(\d+)", lambda m: str(size // int(m[1])), text)
    while "«" in text:
        text = re.sub(r"«(?:(?:(\d+)|/(\d+)|):(~?))?([^«»]*)»", repeated, text)
    return numbered(text, count)


TEMPLATES: dict[str, str | Files] = {
    # words and brackets
    "a_long_number": net("out = in -> conv(«9»)"),
    "a_small_number": net("out = in -> conv(0.«0»1)"),
    "a_number_with_a_large_exponent": net("a = 1e«9»; out = in -> conv(a)"),
    "sizes_beyond_all": f"{STD}«{network(f'out = in -> conv(1e308) -> conv({10**18})', 'n%')}»",
    "a_long_name": net("out = in -> «a»"),
    "a_long_string": 'use "«a».danet"',
    "open_brackets": "network n { out = «(»",
    "brackets_of_all_kinds": "network n { out = «/2:f([{»«/2:}])»",
    "signs_of_other_languages": "«network n% { a := b && c ** d }\n»",
    "numbers_with_many_points": "network n { out = «1.»}",
    "comments_of_other_languages": "«/*»",
    "only_signs": "«= -> { } ; , »",
    "a_wrong_statement_a_line": "network n {\n«a% = = %\n»}",
    "wrong_declarations_in_one_line": "«neuron n% { s = ) } »",
    "unclosed_networks": "«network n% { a = %\n»",
    "a_long_chain_of_not": net("a = «not »1; out = in -> conv(4 if a else 8)"),
    "a_long_condition": net("a = 1 if «1 and »1 else 2; out = in -> conv(a)"),
    "a_long_flow": net("out = in -> «norm -> »avgpool"),
    "a_long_concatenation": net("out = concat(«in, »in)"),
    # errors
    "close_names": net("«value_number_%% = valeu_number_%%\n»out = in -> avgpool"),
    "close_long_names": net(f"«{'abcdefghij' * 5}%% = {'jihgfedcba' * 5}%%\n»out = in -> avgpool"),
    "close_settings": net("«neruon% = 1\n»out = in"),
    "close_letters": f"«/2:rule {'a' * 50}%% = chain\n»«/2:block b% = b{'a' * 48}%%\n»",
    "unknown_names_in_one_line": "use std\nblock b { out = in« -> x%» }",
    "unknown_names_behind_a_syntax_error": (
        "use std\nrule r { = }\n" + network("«a%% = b%%\n»; out = in -> avgpool")
    ),
    "unknown_arguments": "use std\nblock b { out = in «-> conv(4, kernl% = 3) » }",
    "unknown_declarations": "use std\n«network n% = netwrok_%%\n»",
    "declared_twice": "«rule r = chain\n»",
    "parameters_defined_twice": "block b(«aa, »aa) { out = in }",
    "many_arguments_of_one_name": net("out = in -> conv(«width = 4, »width = 4)"),
    "names_taken_that_are_not_there": "use std («LFI%, »LFI)",
    "files_that_are_not_there": '«use "missing_%.danet"\n»',
    "two_files_of_the_same_names": {
        "main.danet": 'use "a.danet"\nuse "b.danet"',
        "a.danet": "«rule r% = r%\n»",
        "b.danet": "«rule r% = r%\n»",
    },
    "definitions_that_nothing_uses": net("«a% = %\n»out = in -> avgpool"),
    "wrong_blocks_in_many_stages": (
        "use std\nblock b(w) = conv(w / 3) -> conv(w)\n"
        + staged("(«/5:stage(b(4), 9) -> »stage(b(4), 9)) via pa_a")
    ),
    # names with large expansions
    "layers_that_double": net("a0 = conv(4) -> norm\n«19:a%+1 = a% -> a%\n»; out = in -> a19"),
    "nothing_that_doubles": net(
        "a0 = identity\n«18:a%+1 = (a% -> a% -> a%)\n»; out = in -> a18 -> avgpool"
    ),
    "values_that_double": net("a0 = in\n«60:a%+1 = a% + a%\n»; out = a60 -> avgpool"),
    "numbers_that_double": net("a0 = 1\n«200:a%+1 = a% + a%\n»; out = in -> conv(a200)"),
    "blocks_that_double": (
        "use std\nblock b0 { out = in -> identity }\n"
        "«17:block b%+1 { out = in -> b% -> b% }\n»" + network("out = in -> b17 -> avgpool")
    ),
    "backbones_that_double": FIRST + "«39:backbone b%+1 = b% -> b%\n»" + staged("b39 via pa_a"),
    "backbones_by_default": (
        FIRST + "«39:backbone b%+1(x = b%, y = b%) = x\n»" + staged("b39 via pa_a")
    ),
    "blocks_by_default": (
        "use std\nblock b0 = conv(4)\n«39:block b%+1(x = b%, y = b%) = x -> y\n»"
        + staged("stage(b39, 1) via pa_a")
    ),
    "numbers_of_two_numbers_each": (
        "use std\nblock b(p0 = 1, p1 = 1«58:, p%+2 = p%+1 + p%») { out = in -> conv(p59 / 2) }\n"
        + network("out = in -> b")
    ),
    "definitions_of_two_definitions_each": (
        "use std\nblock b(w) { out = in -> conv(w) }\n"
        + network("d0 = 1\nd1 = 1\n«58:d%+2 = d%+1 + d%\n»out = in -> b(d59) -> conv(d59 / 2)")
    ),
    "a_backbone_named_often": STD + BIG + network("«a% = b0\n»; out = in -> avgpool"),
    "a_backbone_changed_often": (
        f"{STD}{BIG}«backbone b%+1 = b%{' with (neuron = IF)' * 190}\n»{staged('b2 via pa_a')}"
    ),
    "a_backbone_cut_often": (
        f"{STD}{BIG}«backbone b%+1 = b%{'[0 .. 999]' * 190}\n»{staged('b4 via pa_a')}"
    ),
    "a_long_chain_of_definitions": net("a0 = 1; «a%+1 = a%\n»; out = in -> conv(4)"),
    "a_long_chain_of_values": net("a0 = in\n«a%+1 = a% -> norm\n»out = a% -> avgpool"),
    "a_long_chain_backwards": net("out = a% -> avgpool\n«:~a%+1 = a% -> norm\n»a0 = in"),
    "a_chain_of_variants": (
        STD + network("out = in -> avgpool", "n0") + "«network n%+1 = n% { steps = 3 }\n»"
    ),
    "variants_of_one": (
        STD + staged("resnet152 via pa_a by densely_additive", "base") + "«network n% = base\n»"
    ),
    "variants_with_many_parameters": (
        STD + network("out = in -> avgpool", "base(«/3:p% = %, »p = 1)")
        + "«/2:network n%(p99 = 1) = base\n»"
    ),
    "aliases_of_aliases": "use std\nrule r0 = chain\n«rule r%+1 = r%\n»",
    # networks
    "a_network_of_10000_blocks": STD + staged("stage(basic(4), size/10) via origin"),
    "a_dense_network_of_10000_blocks": (
        STD + staged("(«size/500:stage(basic(8), 50) -> »identity) via origin by densely_additive")
    ),
    "a_network_of_10000_lines": net("a0 = in\n«size/10:a%+1 = a% -> conv(4)\n»out = a% -> avgpool"),
    "deep_networks": (
        f"{STD}«/3:{staged('stage(basic(4), 1000) via pa_a by densely_additive', 'n%')}»"
    ),
    "many_networks": f"{STD}«{staged('resnet18 via pa_a', 'n%')}»",
    "many_small_networks": f"{STD}«{network('out = in -> avgpool', 'n%')}»",
    "the_deepest_network": STD + staged("stage(bottleneck(4), 100000) via pa_a"),
    "a_dense_stage_of_10000_blocks": (
        STD + staged("stage(basic(4), 10000) via pa_a by densely_additive")
    ),
    "concatenations_of_all_blocks": (
        STD + staged("stage(dense(1), 1500) via dense_layer by densely_concatenated")
    ),
    "many_stages": STD + staged("(«stage(basic(4), 9) -> »stage(basic(4), 9)) via pa_a"),
    "a_block_of_many_definitions": (
        "use std\nblock b { a0 = 1\n«a%+1 = a% + i\n»out = in -> conv(4, stride = 1 if a% else 2) }\n"
        + staged("stage(b, 10000)")
    ),
    "a_block_of_many_parameters": (
        "use std\nblock b(«p% = %, »p = 1) { out = in -> conv(4 if i > 0 else 4) }\n"
        + staged("stage(b, 10000)")
    ),
    "a_connection_of_many_parts": (
        "use std\nconnection c { each = spike -> conv -> norm; p0 = branch; «p%+1 = p%; »"
        "out = p% if i > 0 else branch }\n" + staged("stage(basic(4), 10000) via c")
    ),
    "a_connection_of_long_choices": (
        "use std\nconnection c { each = spike -> conv -> norm; "
        "out = branch + («60:in if i == 0 else »in) }\n" + staged("stage(basic(4), 5000) via c")
    ),
    "many_outputs": net(
        "z = in -> avgpool\n«size/40:a% = in -> avgpool\n»out = outputs(«size/40:a%, »z)"
    ),
    "many_kinds_of_neurons": net("out = in« -> LIF(tau = %+2.0)» -> avgpool"),
    # rules
    "nested_ranges": rule(nested("out[0]", 8, "20")),
    "nested_ranges_with_conditions": rule(
        f"sum(out[0], {nested('out[0]', 6, '100 if (i == 0 or i == 1) and i < 100000')})"
    ),
    "a_range_that_is_never_taken": rule("sum(out[0] for j in 0 .. 1999999 if j < 1)"),
    "many_rules_of_many_terms": (
        "use std\n«rule r% { in[i] = sum(out[j] for j in 0 .. i-1 if j >= 0 and i > j); "
        "result = out[n-1] }\n»"
    ),
    "a_rule_of_long_conditions": rule(
        "sum(«out[j] for j in 0 .. i-1 if j == 0 or «90:i == j - 1000 or »j == 1, »out[0])"
    ),
    "a_rule_of_many_ranges": rule("sum(«out[0 .. i-1], »out[0])"),
    "a_rule_with_large_numbers": rule(f"sum(out[0 .. {10**15}], out[j] for j in 0 .. {10**15})"),
    "rules_of_deep_stages": rule(
        nested("out[0]", 2, "100"), "stage(basic(4), 10000) via pa_a by r"
    ),
    "scaled_terms": rule("«40:0.5 * (»out[0]«40:)»", "stage(basic(4), 10000) via pa_a by r"),
    # equations
    "many_neurons": (
        "«neuron n% { state u = 0.0; v = u + x; s = heaviside(v - 1); u = v * (1 - s) }\n»"
    ),
    "neurons_of_long_equations": neurons("«149:a%+1 = a% + exp(x * %.5); »", "a149"),
    "neurons_whose_gradients_grow": neurons("«249:a%+1 = max(a% * a%, exp(a%)); »", "a249"),
    "chains_of_states": f"«neuron n% {{ {states(300, 'u0')} }}\n»",
    "a_chain_of_states_in_each_block": (
        f"use std\nneuron c {{ {states(300, 'heaviside(u0 + x)')} }}\n"
        + staged("stage(basic(4), 5000) via pa_a by densely_additive").replace("= IF", "= c")
    ),
    "surrogates_of_long_equations": (
        "«surrogate n% { a0 = x; «99:a%+1 = a% * sigmoid(x + %); »y = a99 }\n»"
    ),
    "powers_of_sums": neurons("«299:a%+1 = (a% + x) * (a% - x); »", "a299"),
    "many_learnt_parameters": neurons("«199:a%+1 = a% + learn(1.0) * x; »", "a199"),
    "comparisons_in_comparisons": neurons("", "«90:(»x«90: > 0)» + x"),
    "choices_in_choices": neurons("«239:a%+1 = a% if a% > x else a% * x; »", "a239"),
    "a_neuron_of_dense_states": (
        "use std\nneuron c { «60:state u% = 0.5; »e = «59:0.01 * u% + »0.01 * u59; "
        "s = «4:heaviside(e + x - %) + »0; «60:u% = e + x; » }\n"
        "network n { input = events(3, 8, 8, 1); surrogate = sigmoid; steps = 64; "
        "out = in -> c -> avgpool }"
    ),
    # recipes
    "many_recipes": "«recipe r% { epochs = 1; optimizer = sgd(lr = 0.1) }\n»",
    "a_recipe_of_many_phases": (
        "recipe r { optimizer = sgd(lr = 0.1); «phase p% { epochs = %+1 }\n» }"
    ),
    "phases_that_share_a_long_number": (
        "recipe r { optimizer = sgd(lr = 0.1); epochs = max(«3000:1, »1); "
        "«phase p% { warmup = 0 }\n» }"
    ),
    "recipes_of_wrong_settings": "recipe r { «epohcs% = 1; » }",
    "a_long_schedule": (
        "recipe r { epochs = 90000; optimizer = sgd(lr = 0.1); schedule = step(«%+1, »89999) }"
    ),
    "a_long_augmentation": (
        "recipe r { epochs = 1; optimizer = sgd(lr = 0.1); augment = «horizontal_flip -> »cutout(4) }"
    ),
    # files
    "files_that_use_all_others": {
        "main.danet": '«45:use "f%.danet"\n»',
        **{
            f"f{i}.danet": "".join(f'use "f{j}.danet"\n' for j in range(i + 1, 45))
            + f"«/20:rule r{i}_% = r{i}_%\n»"
            for i in range(45)
        },
    },
    "a_chain_of_files": {
        "main.danet": 'use "f0.danet"',
        **{f"f{i}.danet": f'use "f{i + 1}.danet"' for i in range(100)},
    },
    "one_file_used_often": {"main.danet": '«use "a.danet"\n»', "a.danet": "«rule r% = r%\n»"},
    "the_library_used_often": "«use std\n»",
    # warnings
    "many_allowances": "«# allow W0103\nblock b%(w) { out = in }\n»",
    "parameters_that_nothing_reads": "block b(«p% = %, »p = 1) { out = in }",
}  # fmt: skip


def files(template: str | Files, size: int) -> Files:
    parts = {"main.danet": template} if isinstance(template, str) else template
    return {name: filled(text, size) for name, text in parts.items()}


SPECS: dict[str, Callable[[int], Files]] = {
    name: partial(files, template) for name, template in TEMPLATES.items()
}
