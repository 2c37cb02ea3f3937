"""Which networks give their accuracy at every T in one run, by their equations and by running them."""

import pytest
import torch

import danetc
from danetc.compiler import check_text, graph_of
from danetc.compiler.analysis.summary import why_not_stepwise
from tests.differential.helpers import streamed
from tests.differential.networks import small


def text(head: str, code: str = "", norm: str = "batchnorm") -> str:
    settings, source = f"neuron = LIF; norm = {norm}", f"image(2, 6, 6){code}"
    lines = small("stage(basic(4), 1) via sew", input=source, settings=settings, head=head)
    return "use std\n" + lines.replace("steps = 3", "steps = 5")


STEPWISE = [
    text("avgpool -> mean_over_time -> linear(3)"),
    text("mean_over_time -> avgpool(2) -> flatten -> linear(8) -> linear(3)"),
    text("avgpool -> linear(3) -> mean_over_time"),
    text("avgpool -> linear(3)"),
    text("mean_over_time -> avgpool -> conv(3, kernel = 1) -> norm -> flatten"),
    text("avgpool -> mean_over_time -> linear(3)", norm="batchnorm(per_step = true)"),
    text("conv(5, kernel = 3, over = time) -> avgpool -> mean_over_time -> linear(3)"),
    text("avgpool -> flatten -> conv(kernel = 2, over = time, dilation = 2) -> linear(3)"),
    text("linear(over = time, window = 2) -> avgpool -> mean_over_time -> linear(3)"),
    text("avgpool -> linear(over = time, window = 5) -> linear(3)"),
]


@pytest.mark.parametrize("spec", STEPWISE)
def test_the_mean_of_the_first_steps_is_the_output_of_a_shorter_run(spec: str) -> None:
    assert why_not_stepwise(graph_of(check_text(spec))) is None
    per_step = "per_step" in spec or "window" in spec
    model = danetc.build(text=spec, seed=1).double().eval()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.weight.data.mul_(3.0)  # so that there are spikes
    image = torch.randn(4, 2, 6, 6, dtype=torch.float64)
    states, outputs = None, []
    with torch.no_grad():
        for t in range(1, 6):
            y, states = model.stream(image, states)
            outputs.append(y)
            shorter = danetc.build(text=spec, seed=1, set={"steps": 5 if per_step else t})
            shorter.double().load_state_dict(model.state_dict())
            if per_step and t < 5:
                continue  # parameters of each step do not fit a network with T = t
            expected = shorter.eval()(image)
            expected = expected.mean(0) if expected.dim() == 3 else expected
            assert torch.allclose(torch.stack(outputs).mean(0), expected, rtol=1e-12, atol=1e-12)
    assert len({tuple(y.flatten().tolist()) for y in outputs}) > 1  # the outputs differ over time


REASONS = [
    (
        text("avgpool -> mean_over_time -> linear(8) -> sigmoid -> linear(3)"),
        "(sigmoid) follows",
    ),
    (text("mean_over_time -> maxpool(2) -> avgpool -> linear(3)"), "(maxpool) follows"),
    (text("mean_over_time -> conv(4) -> spike -> avgpool -> linear(3)"), "(neuron) follows"),
    (text("avgpool -> mean_over_time -> linear(3)", code=" -> latency"), "(latency) spreads"),
    (text("conv(4, kernel = 2, over = time, padding = same) -> avgpool"), "later ones"),
    (text("avgpool -> softmax(over = time) -> mean_over_time -> linear(3)"), "later ones"),
    (text("avgpool -> linear(3)").replace("LIF", "ReLU"), "the same for every T"),
]


@pytest.mark.parametrize(("spec", "reason"), REASONS)
def test_what_does_not_follow_from_one_run_says_why(spec: str, reason: str) -> None:
    told = why_not_stepwise(graph_of(check_text(spec)))
    assert told is not None
    assert reason in told


def test_what_looks_ahead_does_not_stream() -> None:
    model = danetc.build(text=text("avgpool -> softmax(over = time) -> linear(3)"))
    with pytest.raises(ValueError, match=r"head\.softmax gives at a step depends on later ones"):
        model.stream(torch.zeros(1, 2, 6, 6))
    assert model(torch.zeros(4, 1, 2, 6, 6)).shape == (4, 1, 3), "T is free"


def test_what_has_weights_for_each_step_takes_no_other_T() -> None:
    model = danetc.build(text=text("avgpool -> linear(over = time) -> linear(3)"))
    assert model(torch.zeros(5, 1, 2, 6, 6)).shape == (5, 1, 3)
    with pytest.raises(ValueError, match=r"not of 4: head\.linear1 has weights for each of them"):
        model(torch.zeros(4, 1, 2, 6, 6))
    with pytest.raises(ValueError, match="cannot run step by step"):
        model.stream(torch.zeros(1, 2, 6, 6))


def test_a_window_over_time_streams_up_to_T() -> None:
    model = danetc.build(text=text("avgpool -> linear(over = time, window = 2) -> linear(3)"))
    frames = torch.zeros(6, 1, 2, 6, 6)
    streamed(model, frames[:5])
    with pytest.raises(ValueError, match="weights for 5 steps, not for more"):
        streamed(model, frames)
