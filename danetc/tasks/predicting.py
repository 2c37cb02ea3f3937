"""`danetc.predict`: the classes that a trained network sees in images."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from danetc.arguments import takes
from danetc.errors import UserError
from danetc.output.echo import Note
from danetc.output.returned import Returned, frame
from danetc.requests import EvaluationRequest, PredictionRequest
from danetc.runtime.data.fit import read_samples
from danetc.runtime.model.signature import outputs_of
from danetc.runtime.system.devices import arithmetic
from danetc.runtime.training.losses import main_output, over_time
from danetc.runtime.training.settings import autocast
from danetc.tasks.evaluate import DirectoryEvaluator
from danetc.tasks.trained import Trained, open_trained


@dataclass(frozen=True, repr=False, eq=False)
class Predictions(Returned):
    """Outputs of a network for images.

    Attributes:
        images: Names of the images.
        class_names: Names of the classes, or of the numbers in a regression.
        logits: Outputs [N, classes] of the network, before softmax.
        numbers: True for a regression, False for a classification.
    """

    images: tuple[str, ...]
    class_names: tuple[str, ...]
    logits: Tensor
    numbers: bool = False

    @property
    def probabilities(self) -> Tensor:
        """Softmax of the logits, [N, classes]."""
        return self.logits.softmax(1)

    @property
    def classes(self) -> list[str]:
        """Name of the most probable class of each image."""
        return [self.class_names[number] for number in self.logits.argmax(1).tolist()]

    def as_dict(self, top: int = 5) -> dict[str, Any]:
        """Return JSON data of the ``top`` classes of each image, or of all numbers."""
        found: list[dict[str, Any]] = []
        for image, logits, shares in zip(self.images, self.logits, self.probabilities, strict=True):
            order = logits.argsort(descending=True, stable=True)[:top].tolist()
            best = [
                {
                    "class": self.class_names[n],
                    "logit": float(logits[n]),
                    "probability": None if self.numbers else float(shares[n]),
                }
                for n in (range(len(logits)) if self.numbers else order)
            ]
            found.append({"image": image, "classes": best})
        return {"predictions": found}

    def frame(self) -> Any:
        rows = self.logits if self.numbers else self.probabilities
        return frame(
            {"image": image} | dict(zip(self.class_names, row, strict=True))
            for image, row in zip(self.images, rows.tolist(), strict=True)
        )

    def _line(self) -> str:
        return ", ".join([] if self.numbers else self.classes[:5]) or f"{len(self.images)} images"


@takes(PredictionRequest)
def predict(request: PredictionRequest) -> Predictions:
    """Predict the classes of images, as ``danetc predict`` does.

    Images are prepared as in the tests of the training. Raises UserError where the directory or an
    image is wrong.
    """
    return predict_trained(open_trained(os.fspath(request.directory)), request)


def predict_trained(
    trained: Trained, request: PredictionRequest, note: Note = lambda text: None
) -> Predictions:
    """Return the outputs of a network. ``note`` gets notes. Raises as ``predict``."""
    if not request.images:
        raise UserError("there are no images to predict")
    same = ("prepare", "checkpoint", "backend", "device")
    asked = EvaluationRequest(trained.path, **{name: getattr(request, name) for name in same})
    one = DirectoryEvaluator(trained, asked, note)
    now, data = one.conditions, one.conditions.data or {}
    if data.get("target") in ("pixels", "steps"):
        each = str(data["target"])[:-1]
        raise UserError(
            f"{trained.path} gives a class for each {each}, which predict does not show"
        )
    if now.evaluate is None:
        note("no recipe says how images are prepared: nothing is done to them")
    model = one.at_steps(request.steps or one.steps).eval()
    signature = model.signature
    place = list(signature.outputs).index(main_output(now.loss, signature, now.output))
    x, names = read_samples([*map(str, request.images)], signature, now.evaluate or (), data)
    outputs, how = [], (now.precision, one.device)
    with torch.inference_mode(), arithmetic(*how), autocast(*how):
        for batch in x.split(now.batch, int(signature.sequence)):
            found = outputs_of(model(batch.to(one.device)))[place]
            outputs.append(over_time(found).cpu())
    logits = torch.cat(outputs).float()
    classes = now.class_names or tuple(map(str, range(logits.shape[1])))
    return Predictions(tuple(names), classes, logits, data.get("target") == "numbers")
