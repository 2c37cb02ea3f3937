"""A network of danetc in Hugging Face's Accelerate, started by python, torchrun or `accelerate launch`."""

import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

import danetc
from danetc.runtime.data.registry import open_data

torch.manual_seed(0)
accelerator = Accelerator()  # mixed_precision="bf16" works, too
digits = open_data("digits")
train = TensorDataset(digits.train.images, digits.train.labels)
model = danetc.build("danet_c_small", seed=0)
model, optimizer, loader = accelerator.prepare(
    model,
    torch.optim.AdamW(model.parameters(), lr=5e-3),
    DataLoader(train, batch_size=32, shuffle=True),
)
for _ in range(4):
    for images, labels in loader:
        loss = cross_entropy(model(images), labels)
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()

own = accelerator.unwrap_model(model).eval()
with torch.inference_mode():
    images, labels = (
        each.to(accelerator.device) for each in (digits.test.images, digits.test.labels)
    )
    accuracy = (own(images).argmax(-1) == labels).float().mean().item()
accelerator.print(f"test accuracy {accuracy:.1%}")
