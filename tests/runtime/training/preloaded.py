"""Work that the fork server does once, before it forks processes that train."""

import os

if "DANETC_PRETENDED_LIBRARY" in os.environ:
    import tests.gpu.device  # noqa: F401 (before torch)

import torch
import torch.nn.parallel  # imports what DistributedDataParallel needs

import danetc
import danetc.commands.trainings
import danetc.runtime.data.augment  # torchvision
import danetc.tasks.grid.comparison
import danetc.tasks.training.train
from tests.runtime.training.common import digits, phase
from tests.runtime.training.processes import NOISY

danetc.build(text=NOISY)
digits()
phase("epochs = 1; optimizer = sgd(lr = 1)")
torch.optim.SGD([torch.zeros(1)])  # the first optimizer imports Dynamo, which takes a second
