"""Every network of specs/zoo is short, names its source, equals the interpreter and can be measured."""

import pytest
import torch

from danetc.compiler import check_text
from danetc.compiler.analysis.summary import summarise
from danetc.compiler.emit.fx import emit
from danetc.compiler.emit.layout import layout_of
from danetc.compiler.frontend.resolved import resolved_spec
from danetc.runtime.layers.neuron import Neuron
from danetc.runtime.measure import measure
from tests.differential.helpers import observe, randn
from tests.fuzzing import compare as interpreting
from tests.zoo.authors import FOLDER, TOLERANCE, compare_with_authors, comparison_of
from tests.zoo.harness import (
    BATCH,
    CASES,
    NAMES,
    RATES,
    checked,
    file_of,
    frames,
    graph,
    published,
    rouse,
)
from tests.zoo.page import PAGE, entry_of, own_lines, write_table

MAX_LINES = 30
MAX_RESTING = 0.25
"""The share of layers that may have a rate outside ``RATES``: products of attention may not fire."""
RESTING = ("ma_snn", "se_adlif", "spiking_lstm")
"""Networks that fire only with weights in narrow ranges, as ``test_a_network_is_its_authors`` draws them."""
OFTEN = ("decolle", "event_densenet", "glif", "plif_net", "senet", "spikformer", "srnn", "tebn")
"""One of each kind; ``make thorough`` runs all."""
RUNS = [pytest.param(name, marks=[pytest.mark.thorough] * (name not in OFTEN)) for name in NAMES]


@pytest.mark.parametrize("name", RUNS)
def test_a_network_is_the_interpreter_s(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is in float64, in training and evaluation, with all gradients and running statistics."""
    monkeypatch.setattr(interpreting, "NEAR", 1e-10)  # rounding errors of float64 are smaller
    monkeypatch.setattr(interpreting, "MAX_NODES", 10_000)
    monkeypatch.setattr(interpreting, "MAX_ELEMENTS", 100_000_000)
    settings = CASES[name]
    network = graph(name, settings).name
    spec = check_text(resolved_spec(checked(name), network, dict(settings)))
    for seed in range(1, 6):  # until no potential equals its threshold up to rounding
        subject = interpreting.Subject(spec, network, seed, torch.float64)
        rates = rouse(subject.model, subject.x)
        subject.state = {key: value.clone() for key, value in subject.model.state_dict().items()}
        case = interpreting.Case()
        for training in (True, False):
            subject.check(subject.model, training, name, case)
        if case.compared.total() == 2:
            break
    assert case.compared.total() == 2
    if name not in RESTING:
        outputs = subject.run(subject.model.train(), subject.x)[0].outputs.values()
        assert all(output.std() > 1e-3 * abs(output).max() > 0 for output in outputs)
        resting = sum(not RATES[0] <= rate <= RATES[1] for rate in rates)
        assert resting <= MAX_RESTING * len(rates), rates


@pytest.mark.parametrize("name", RUNS)
def test_a_network_can_be_measured(name: str) -> None:
    """Firing rates match the spikes, the parts of gradients add up to the whole, and the operations
    counted during the run match those of the graph.
    """
    ours = graph(name, CASES[name])
    torch.manual_seed(0)
    model = emit(ours, 0).double()
    x = frames(ours)
    rouse(model, x)
    for module in model.modules():
        if hasattr(module, "running_var"):  # a running mean without spikes would divide by 0
            module.momentum = 1.0
    with torch.no_grad():
        model(x)  # evaluation uses the statistics of this batch
    model.eval()
    layout = layout_of(ours)
    asked = ("firing-rate", "gradients", "operations")
    data = [(x, torch.zeros(BATCH))]
    found = measure(
        model, layout, data, only=asked, loss=lambda y, _: (y * randn(*y.shape, seed=3)).sum()
    )
    assert found.firing_rate is not None
    assert found.gradients is not None
    assert found.operations is not None
    torch.manual_seed(0)  # the same random numbers as in ``measure``
    seen = observe(model, x)
    modules = [name for name, module in model.named_modules() if isinstance(module, Neuron)]
    fired = dict(zip(modules, seen.spikes, strict=True))
    units = {layer.name: layer.kind.unit for layer in layout.neurons if layer.kind.is_integer}
    for rate in found.firing_rate.layers:
        wanted = float(fired[rate.layer].abs().mean()) / units[rate.layer]
        assert rate.rate == pytest.approx(wanted), rate.layer
    assert found.gradients.residual < 1e-9
    alone = len(seen.outputs) == 1  # else only the gradient of the first output is measured
    for norm in found.gradients.parameters if alone else ():
        whole = float(seen.gradients[norm.parameter].norm())
        assert norm.whole == pytest.approx(whole, abs=1e-9), norm.parameter
    facts = summarise(ours)
    assert found.operations.dense_macs == facts.macs + facts.additions


def test_every_file_is_run_short_and_says_whose_network_it_is() -> None:
    assert tuple(CASES) == NAMES
    assert {path.stem for path in FOLDER.iterdir()} == set(NAMES)
    for name in NAMES:
        assert own_lines(file_of(name).read_text("utf-8")) <= MAX_LINES
        assert all(entry_of(name)), name


@pytest.mark.parametrize("name", [name for name in NAMES if published(name)])
def test_the_parameters_are_the_papers(name: str) -> None:
    for said, settings in published(name).items():
        number, _, unit = said.partition(" ")
        count = summarise(graph(name, settings)).parameters
        digits = len(number.partition(".")[2])
        assert f"{count / {'M': 1e6, 'k': 1e3, '': 1}[unit]:.{digits}f}" == number


STARTS = [
    ("diet_snn", "u_learnt", 1.0),
    ("glif", "lost_learnt_raw", -2.70805020110221),  # the logit of 0.0625
    ("masked_psn", "PSN.linear.bias", 0.0),
    ("psn", "PSN.linear.bias", 0.0),
    ("tdbn_resnet19", "norm1.weight", 0.2),
]


@pytest.mark.parametrize(("name", "end", "value"), STARTS, ids=[start[0] for start in STARTS])
def test_numbers_start_as_in_the_authors_code(name: str, end: str, value: float) -> None:
    """A comparison draws all weights, and does not test their initial values."""
    steps = {"steps": 3} if name == "glif" else {}
    model = emit(graph(name, {"width": 2, **steps}), 0)
    found = [start for key, start in model.named_parameters() if key.endswith(end)]
    assert found
    for start in found:
        torch.testing.assert_close(start, torch.full_like(start, value))


def test_the_page_is_up_to_date() -> None:
    """``python -m tests.zoo.page`` writes it."""
    text = PAGE.read_text("utf-8")
    assert write_table(text) == text
    compared = sum(comparison_of(name).repository is not None for name in NAMES)
    assert f"{compared} of the {len(NAMES)} were also compared" in text
    most = max(len(file_of(name).read_text("utf-8").splitlines()) for name in NAMES)
    assert (
        f"at most {MAX_LINES} lines without comments and blank lines ({most} with them)"
        in " ".join(text.split())
    )


# -- the authors' code -----------------------------------------------------------------------------


MAX_BYTES = 50_000


@pytest.mark.parametrize("name", NAMES)
def test_a_network_is_its_authors(name: str) -> None:
    comparison = comparison_of(name)
    if comparison.repository is None:
        assert comparison.reason
        return
    assert len(comparison.commit) == 40
    assert FOLDER.joinpath(f"{name}.npz").stat().st_size <= MAX_BYTES
    assert compare_with_authors(name) <= TOLERANCE
