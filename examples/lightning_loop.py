"""A network of danetc trained by Lightning: the model is an ordinary module of PyTorch."""

import lightning
import torch
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import danetc
from danetc.runtime.data.registry import open_data

EPOCHS = 4


class Classifier(lightning.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.model = danetc.build("danet_c_small", seed=0, backend="eager")

    def training_step(self, batch, index):
        images, labels = batch
        loss = F.cross_entropy(self.model(images), labels)
        self.log("train_loss", loss)
        return loss

    def test_step(self, batch, index):
        images, labels = batch
        accuracy = (self.model(images).argmax(-1) == labels).float().mean()
        self.log("accuracy", accuracy, batch_size=len(labels))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=5e-3)


lightning.seed_everything(0, verbose=False)
digits = open_data("digits")
train, test = (TensorDataset(each.images, each.labels) for each in (digits.train, digits.test))
trainer = lightning.Trainer(
    max_epochs=EPOCHS,
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
classifier = Classifier()
trainer.fit(classifier, DataLoader(train, batch_size=32, shuffle=True))
(found,) = trainer.test(classifier, DataLoader(test, batch_size=360), verbose=False)
print(f"test accuracy {found['accuracy']:.1%}")
