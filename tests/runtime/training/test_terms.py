"""The terms of a loss that a training reports, against trainings with one of the terms alone."""

from __future__ import annotations

import csv
import io

import pytest

import danetc
from danetc.runtime.data.dataset import DataSet
from danetc.tasks.training.directory import metrics_csv
from tests.runtime.training.common import STILL, Trained, phase, run

STANDING = "epochs = 1; batch = 50; optimizer = sgd(lr = 1e-30); "
"""The weights stay as they are, so all trainings see the same network."""


def trained(few: DataSet, loss: str, more: str = "gradient = bptt") -> Trained:
    model = danetc.build(text=STILL, seed=1, backend="eager")
    return run(model, few, phase(f"{STANDING} {more}; loss = {loss}"))


@pytest.mark.parametrize("more", ["accumulate = 2", "gradient = truncated(1)", "ema = 0.5"])
def test_a_term_is_what_it_is_alone(few: DataSet, more: str) -> None:
    whole = trained(few, "cross_entropy + 3 * mse", more)
    alone = {name: trained(few, name, more).history for name in ("cross_entropy", "mse")}
    assert [rows[0]["terms"] for rows in alone.values()] == [{}, {}]
    assert "term" not in metrics_csv(alone["mse"])
    entropy, error = (rows[0]["train_loss"] for rows in alone.values())
    expected = {"cross_entropy": entropy, "mse": 3 * error}
    (epoch,) = whole.watcher.epochs
    assert epoch.terms == pytest.approx(expected, rel=1e-5)
    assert whole.watcher.steps[-1].terms == epoch.terms
    assert sum(epoch.terms.values()) == pytest.approx(epoch.train_loss, rel=1e-6)
    (row,) = csv.DictReader(io.StringIO(metrics_csv(whole.history)))
    assert float(row["term_mse"]) == epoch.terms["mse"]


def test_terms_of_neurons_and_names_that_repeat(few: DataSet) -> None:
    rates = [f"{factor} * firing_rate(target = {target})" for factor, target in ((0.5, 0), (2, 1))]
    found = [trained(few, f"cross_entropy + {term}").watcher.epochs[0] for term in rates]
    (epoch,) = trained(few, " + ".join(["cross_entropy", *rates])).watcher.epochs
    assert list(epoch.terms) == ["cross_entropy", "firing_rate_1", "firing_rate_2"]
    for number, alone in enumerate(found, 1):
        rate = alone.train_loss - alone.terms["cross_entropy"]
        assert epoch.terms[f"firing_rate_{number}"] == pytest.approx(rate, rel=1e-4)
