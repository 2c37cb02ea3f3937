"""A network of danetc under DistributedDataParallel: torchrun --standalone --nproc-per-node 2 ddp_loop.py"""

import torch
from torch import distributed
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

import danetc
from danetc.runtime.data.registry import open_data

distributed.init_process_group("gloo")  # nccl on GPUs
digits = open_data("digits")
train = TensorDataset(digits.train.images, digits.train.labels)
sampler = DistributedSampler(train)
loader = DataLoader(train, batch_size=16, sampler=sampler)  # for each process

model = DistributedDataParallel(danetc.build("danet_c_small", seed=0))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for epoch in range(4):
    sampler.set_epoch(epoch)
    for images, labels in loader:
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

if distributed.get_rank() == 0:
    own = model.module.eval()
    with torch.inference_mode():
        accuracy = (own(digits.test.images).argmax(-1) == digits.test.labels).float().mean().item()
    print(f"test accuracy {accuracy:.1%}")
distributed.destroy_process_group()
