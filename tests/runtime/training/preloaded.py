"""What the server that trainings are forked from has done already, once for all of them."""

from __future__ import annotations

import danetc
from tests.runtime.training.common import digits, phase
from tests.runtime.training.processes import NOISY

danetc.build(text=NOISY)
digits()
phase("epochs = 1; optimizer = sgd(lr = 1)")
