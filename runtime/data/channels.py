"""Images for a network of another number of channels: grey in colour, and colour in grey."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import Tensor
from torchvision.transforms.v2 import functional as F

from danetc.runtime.data.source import DataSet, Memory, Source
from danetc.runtime.sources.request import Policy

COLOUR, GREY = 3, 1


def with_channels(data: DataSet, channels: int) -> DataSet:
    """``data`` with images of so many channels, and a notice that says so.

    Grey is given to each of 3 channels; of colours their luma (ITU-R BT.601) is taken. Data of
    events, and what is neither grey nor in colour, stay as they are: ``check_fit`` refuses them.
    """
    own = data.shape[0] if data.shape is not None else COLOUR
    if data.events or own == channels or {own, channels} != {COLOUR, GREY}:
        return data
    message = (
        f"the images of {data.name} are grey; each is given to the network's 3 channels"
        if channels == COLOUR
        else f"the images of {data.name} are in colour; the network gets their grey values"
    )
    return replace(
        data,
        train=_converted(data.train, channels),
        test=_converted(data.test, channels),
        shape=(channels, *data.shape[1:]) if data.shape is not None else None,
        notices=(*data.notices, message),
        details={**data.details, "converted_to_channels": channels},
    )


def convert(images: Tensor, channels: int) -> Tensor:
    """Images [..., 1, H, W] in 3 equal channels, or [..., 3, H, W] as grey values."""
    if channels == COLOUR:
        return images.expand(*images.shape[:-3], COLOUR, *images.shape[-2:])
    grey: Tensor = F.rgb_to_grayscale(images, num_output_channels=GREY)
    return grey


def _converted(source: Source, channels: int) -> Source:
    if isinstance(source, Memory):
        return replace(source, images=convert(source.images, channels))
    return _Converted(source, channels)


@dataclass(frozen=True, eq=False)
class _Converted:
    source: Source
    channels: int

    @property
    def labels(self) -> Tensor:
        return self.source.labels

    @property
    def on_unreadable(self) -> Policy:
        return self.source.on_unreadable

    @property
    def draws(self) -> bool:
        return self.source.draws

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int | Tensor]:
        image, label = self.source[index]
        return convert(image, self.channels), label

    def where(self, index: int) -> str:
        return self.source.where(index)

    def select(self, indices: Tensor, labels: Tensor) -> _Converted:
        return replace(self, source=self.source.select(indices, labels))
