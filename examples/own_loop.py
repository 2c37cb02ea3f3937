"""A plain PyTorch loop over a network of danetc: nothing of the training runtime is needed."""

import torch
from sklearn.datasets import load_digits

import danetc

torch.manual_seed(0)
images, labels = map(torch.from_numpy, load_digits(return_X_y=True))
images, order = images.float().div(16).view(-1, 1, 8, 8), torch.randperm(len(labels))
train, test = order[:1440], order[1440:]

model = danetc.build("danet_c_small", seed=0)
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for _ in range(4):
    for batch in train[torch.randperm(len(train))].split(32):
        loss = torch.nn.functional.cross_entropy(model(images[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

model.eval()
with torch.inference_mode():
    accuracy = (model(images[test]).argmax(-1) == labels[test]).float().mean().item()
print(f"test accuracy {accuracy:.1%}")
