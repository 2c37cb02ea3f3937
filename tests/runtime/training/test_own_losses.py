"""Loss terms from a user's file, against the same built-in losses."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

import danetc
from danetc.dsl.diagnostics.diagnostic import SpecError
from danetc.dsl.recipe.text import write_setting
from danetc.errors import UserError
from danetc.runtime.training.losses import Objective, over_time
from tests.runtime.training import test_own_code as own
from tests.runtime.training.common import STILL, phase, small

BODY = "epochs = 2; batch = 50; optimizer = sgd(lr = 0.1); loss = "
file = own.file


def objective(loss: str, model: Any) -> Objective:
    return Objective(phase(BODY + loss).loss, model.signature, None, model)


def test_numbers_by_their_names() -> None:
    model = small()
    loss = objective('python("mine.py:focal", gamma = 2, alpha = 0.25)', model)
    x, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    outputs = model(x)
    shares = F.softmax(over_time(outputs), -1)[torch.arange(4), labels]
    expected = -(0.25 * (1 - shares) ** 2 * shares.log()).mean()
    torch.testing.assert_close(loss(outputs, labels, x), expected)
    (change,) = phase(BODY + 'python("mine.py:focal", gamma = 1 + 1)').loss
    text = write_setting("loss", (change,))
    assert text == 'python(function = "mine.py:focal", gamma = 2)'
    assert phase(BODY + text).loss == (change,)


def test_a_loss_of_potentials() -> None:
    model = danetc.build(text=STILL, seed=1, backend="eager")
    x, labels = torch.rand(4, 1, 8, 8), torch.arange(4)
    found = []
    for text in ("membrane(target = 0.5)", 'python_membrane("mine.py:level", target = 0.5)'):
        loss = objective(f"cross_entropy + {text}", model)
        value = loss(model(x), labels, x)
        found.append((value, *torch.autograd.grad(value, list(model.parameters()))))
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        ('python("gone.py:weighted")', "there is no file .*gone.py"),
        ('python("mine.py:weigted")', r"no `weigted`; did you mean `weighted`\?"),
        ('python("mine.py:other")', "3 is not a callable object"),
        ('python("mine.py:focal")', r"called with \(output, labels\).*missing.*gamma"),
        ('python("mine.py:focal", gamma = 1, beta = 2)', "unexpected keyword argument 'beta'"),
        ('python("broken.py:a")', "broken.py, line 1, in <module>: ZeroDivisionError"),
        # errors of the first step
        ('python("mine.py:each")', r"gives tensor\(.*, not one real number"),
        ('python("mine.py:number")', "gives 3.0, not one real number"),
        ('python("mine.py:cut")', "passes no gradient"),
    ],
)
def test_what_is_wrong(loss: str, says: str) -> None:
    Path("broken.py").write_text("1 / 0")
    model = small()
    outputs = model(torch.rand(4, 1, 8, 8))
    with pytest.raises(UserError, match=says):
        objective(loss, model)(outputs, torch.arange(4))


def test_what_check_refuses() -> None:
    for text in ('python("mine.py")', 'python("mine:a")', "python(mine)", "python",
                 'python("mine.py:a", gamma = "x")', 'python("mine.py:a", factor = 2)', 'python("mine.py:a", b = 1, b = 2)'):  # fmt: skip
        with pytest.raises(SpecError):
            phase(BODY + text)


def test_a_run_goes_on_with_the_file_that_it_began_with(tmp_path: Path, file: Path) -> None:
    """The file is loaded where tensors have values, not in the pass that computes the memory of a step."""
    settings = (
        'epochs = 1; batch = 500; optimizer = sgd(lr = 0.1); loss = python("mine.py:weighted")'
    )
    text = f"{STILL} recipe r {{ {settings} }}"
    train = partial(danetc.train, text=text, output=tmp_path / "run", backend="eager", memory="8GB")
    done = train()
    assert "no checkpoint" not in " ".join(done.notes)
    assert (done.directory / "checkpoints" / "last").is_dir()
    assert "mine.py (SHA-256" in (done.directory / "run.json").read_text()
    assert danetc.evaluate(done.directory).results[0].top1 == done.test_accuracy  # without the file
    file.write_text(own.FILE + "\n# changed\n")
    with pytest.raises(UserError, match=r"functions.mine.py:weighted"):
        train()
