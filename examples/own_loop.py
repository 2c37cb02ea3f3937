"""A plain PyTorch loop over a network of danetc: nothing of the training runtime is needed."""

import torch

import danetc
from danetc.runtime.data.registry import open_data

torch.manual_seed(0)
digits = open_data("digits")
train, test = digits.train, digits.test  # images [N, 1, 8, 8] and labels [N]

model = danetc.build("danet_c_small", seed=0)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for _ in range(4):
    for batch in torch.randperm(len(train)).split(32):
        loss = torch.nn.functional.cross_entropy(model(train.images[batch]), train.labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

model.eval()
with torch.inference_mode():
    accuracy = (model(test.images).argmax(-1) == test.labels).float().mean().item()
print(f"test accuracy {accuracy:.1%}")
