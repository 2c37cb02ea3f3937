"""Neurons, recipes, files and warnings."""

from __future__ import annotations

from tests.adversarial.parts import Files, filled, spec, staged, times

# -- equations ---------------------------------------------------------------------------------------


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


# -- recipes -----------------------------------------------------------------------------------------


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


# -- files -------------------------------------------------------------------------------------------


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


# -- warnings ----------------------------------------------------------------------------------------


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
