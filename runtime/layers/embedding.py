"""A table of vectors, one for each token."""

from __future__ import annotations

from torch import Tensor, nn


class Embedding(nn.Embedding):
    """Rows of a table, chosen by tokens: a vector [..., D] of one, a map [..., D, 1, L] of L.

    Tokens are int64, [..., 1] or [..., L]; ``length`` is 1 or L.
    """

    def __init__(self, vocabulary: int, width: int, length: int) -> None:
        super().__init__(vocabulary, width)
        self.length = length

    def forward(self, input: Tensor) -> Tensor:
        rows = super().forward(input)
        return rows.squeeze(-2) if self.length == 1 else rows.mT.unsqueeze(-2)
