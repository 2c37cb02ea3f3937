"""Texts as tokens: corpora, in which the label of a token is the next one, and labelled texts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from danetc.runtime.data.arrays import read_numpy, tokens_of
from danetc.runtime.data.dataset import DataSet
from danetc.runtime.data.own import own_set
from danetc.runtime.data.request import DataRequest, TokenInput, read_text, reported
from danetc.runtime.system.errors import DataError

Array = np.ndarray[Any, Any]
Labelled = tuple[Sequence[Any], Sequence[Any]]
"""Texts (or their tokens) and the label of each."""


@dataclass(frozen=True)
class Tokenizer:
    """Turns a text into tokens: ``bytes``, ``characters`` of an ``alphabet``, or a tokenizer of the library
    tokenizers by its file or name. In an alphabet, token 0 is none of the characters."""

    name: str
    alphabet: str = ""

    @cached_property
    def _library(self) -> Any:
        try:
            import tokenizers
        except ImportError as error:
            raise DataError(
                f"the tokenizer {self.name} needs the library tokenizers, which is not installed; "
                "pip install 'danetc[tokenizers]', or take bytes or characters"
            ) from error
        is_file = Path(self.name).is_file()
        made = tokenizers.Tokenizer
        with reported(f"the tokenizer {self.name} cannot be loaded"):
            return (made.from_file if is_file else made.from_pretrained)(self.name)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Text of each token of the vocabulary."""
        if self.name == "bytes":
            return tuple(repr(chr(n))[1:-1] if n < 128 else f"\\x{n:02x}" for n in range(256))
        if self.name == "characters":
            return ("none", *(repr(each)[1:-1] for each in self.alphabet))
        count = self._library.get_vocab_size()
        return tuple(str(self._library.id_to_token(number)) for number in range(count))

    def encode(self, text: Any, where: str) -> Array:
        """Return the tokens of a text, [L]; tokens stay. Raises DataError for a character outside of the
        alphabet, and for what is neither."""
        if not isinstance(text, str):
            return _checked(text, where)
        if self.name == "bytes":
            return np.frombuffer(text.encode(), np.uint8)
        if self.name != "characters":
            return np.array(self._library.encode(text).ids, np.int64)
        points, known = (np.frombuffer(x.encode("utf-32-le"), "<u4") for x in (text, self.alphabet))
        strange = points[~np.isin(points, known)]
        if len(strange):
            raise DataError(
                f"{where} has the character {chr(strange[0])!r}, which is none of the {len(known)} of the "
                "training text"
            )
        found: Array = np.searchsorted(known, points) + 1
        return found


def text_set(
    request: DataRequest, splits: Mapping[str, str | Array | Labelled], name: str, **facts: Any
) -> DataSet:
    """Return a data set of a corpus, text or tokens [L], or of labelled texts for each split.

    A sample has as many tokens as the network takes at once, or as there are time steps. A corpus is split
    into samples; its end is held out to test on. Labelled texts are truncated, or padded with 0 at the end.
    """
    takes = request.tokens
    length = request.frames if takes is None or takes.length == 1 else takes.length
    if length is None:
        raise DataError(
            f"the number of tokens in a sample of {name} is unknown: set --steps, or name a network"
        )
    texts = [text for x in splits.values() for text in (x[0] if isinstance(x, tuple) else [x])]
    strings = [text for text in texts if isinstance(text, str)]
    kind = request.options.get("tokenizer", "bytes")
    alphabet = "".join(sorted(set("".join(strings)))) if kind == "characters" else ""
    tokenizer = Tokenizer(kind, alphabet)
    found: dict[str, Any] = {}
    corpora: dict[str, Array] = {}
    for split, each in splits.items():
        where = f"{name} ({split})"
        if not isinstance(each, tuple):
            corpora[split] = tokenizer.encode(each, where)
        elif len(each[0]):
            rows = [tokenizer.encode(text, where) for text in each[0]]
            found[split] = _filled(rows, length), np.asarray(each[1])
        else:
            raise DataError(f"{where} has no texts")
    if corpora and request.share is not None:
        cut = round((1 - request.share) * len(corpora["train"]))
        corpora = {"train": corpora["train"][:cut], "test": corpora["train"][cut:]}
        request = replace(request, share=None)
    found |= {s: _windows(each, length, f"{name} ({s})") for s, each in corpora.items()}
    vocabulary = 1 + max(int(x.max()) for x, _ in found.values())
    if strings:
        vocabulary = len(tokenizer.names)
        facts = {"tokenizer": kind, "alphabet": alphabet, **facts}
        found |= {"class_names": tokenizer.names} if corpora else {}
    tokens = takes or TokenInput(vocabulary, 1)
    return own_set(replace(request, tokens=tokens), found, name, **facts)


def _checked(tokens: Any, where: str) -> Array:
    """Return stored tokens as an array. Raises DataError for anything else."""
    found = np.asarray(tokens)
    if found.ndim != 1 or found.dtype.kind not in "ui":
        raise DataError(f"{where} has {tokens!s:.40}, which is no text and no whole numbers [L]")
    return found


def joined(rows: Sequence[Any], where: str) -> str | Array:
    """Return texts, or the tokens of each text, as one corpus."""
    stored = [_checked(row, where) for row in rows if not isinstance(row, str)]
    return np.concatenate(stored) if stored else "\n".join(rows)


def _windows(corpus: Array, length: int, where: str) -> tuple[Array, Array]:
    """Return samples [N, length], and the token after each of their tokens."""
    count = (len(corpus) - 1) // length
    if count < 1:
        raise DataError(
            f"{where} has {len(corpus)} tokens, fewer than the {length + 1} of a sample and its labels"
        )
    whole = corpus[: count * length + 1].astype(np.int64)
    return whole[:-1].reshape(count, length), whole[1:].reshape(count, length)


def _filled(rows: Sequence[Any], length: int) -> Array:
    """Return rows of tokens as [N, length]."""
    found = np.zeros((len(rows), length), np.int64)
    for row, tokens in zip(found, rows, strict=True):
        row[: len(tokens)] = tokens[:length]
    return found


def read_texts(path: Path) -> str | Array | Labelled:
    """Read a corpus: text, or tokens in an npy file; or labelled texts in a tsv file, one in each line
    behind its label and a tab. Raises DataError."""
    if path.suffix.lower() == ".npy":
        return _checked(read_numpy(str(path)), str(path))
    text = read_text(path)
    if path.suffix.lower() != ".tsv":
        return text
    labels, texts = [], []
    for number, line in enumerate(text.split("\n"), 1):
        label, tab, rest = line.partition("\t")
        if line.strip() and not tab:
            raise DataError(f"{path}:{number} has no tab between its label and its text")
        if line.strip():
            labels.append(label)
            texts.append(rest)
    return texts, labels


def token_samples(
    paths: Sequence[str], takes: TokenInput, steps: int, trained_on: Mapping[str, Any]
) -> tuple[Tensor, list[str]]:
    """Return the samples of files as a network takes them, [N, L] or [T, N, 1], and the name of each.

    Each line of a text is a sample, tokenized as in the data set that ``trained_on`` describes. An npy file
    has the tokens of one sample, [L], or of several, [N, L]. Raises DataError, which names the file.
    """
    length = steps if takes.length == 1 else takes.length
    tokenizer = Tokenizer(trained_on.get("tokenizer", "bytes"), trained_on.get("alphabet", ""))
    rows: list[Array] = []
    names: list[str] = []
    for path in paths:
        if Path(path).suffix.lower() == ".npy":
            array = np.atleast_2d(np.asarray(read_numpy(path)))
            found = [*tokens_of(array, path, replace(takes, length=2)).numpy()]
        else:
            lines = read_text(Path(path)).strip("\n").split("\n")
            found = [tokenizer.encode(line, path) for line in lines if line]
        names += [f"{path}[{n}]" if len(found) > 1 else path for n in range(len(found))]
        rows += found
    if not rows:
        raise DataError(f"{', '.join(paths)} has no line of text")
    x = tokens_of(_filled(rows, length), paths[0], takes)
    return x.transpose(0, 1) if takes.length == 1 else x, names
