"""Texts as tokens: corpora, labelled lines, arrays, tables of Hugging Face, and what is wrong with them."""

from __future__ import annotations

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import TokenInput
from danetc.runtime.data.sources.python import in_memory
from danetc.runtime.data.texts import Tokenizer
from danetc.runtime.system.errors import DataError

TEXT = "spikes fire, and neurons rest. " * 3
LINES = "good\ta fine film\nbad\tdull\n\ngood\tgreat\nbad\tpoor plot\n"
IN_TIME, AT_ONCE = TokenInput(256, 1), TokenInput(256, 6)


def write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize("takes", [IN_TIME, AT_ONCE])
def test_the_label_of_a_token_is_the_next_one(tmp_path: Path, takes: TokenInput) -> None:
    path = write(tmp_path / "a.txt", TEXT)
    data = open_data(f"tokens:{path},test=0.2", frames=6, tokens=takes)
    x, y = data.train.images, data.train.labels  # type: ignore[union-attr]
    assert x.dtype == y.dtype == torch.int64
    assert (data.tokens, data.events, data.classes) == (True, takes is IN_TIME, 256)
    assert data.target == ("steps" if takes is IN_TIME else "pixels")
    assert x.shape[1:] == ((6, 1) if takes is IN_TIME else (6,))
    assert y.shape[1:] == ((6,) if takes is IN_TIME else (1, 6))
    cut = round(0.8 * len(TEXT))
    assert bytes(x.flatten().tolist()).decode() == TEXT[: x.numel()]
    assert bytes(y.flatten().tolist()).decode() == TEXT[1 : x.numel() + 1]
    assert x.numel() < cut <= x.numel() + 6
    tested = data.test.images  # type: ignore[union-attr]
    assert bytes(tested.flatten().tolist()).decode() == TEXT[cut : cut + tested.numel()]
    assert data.class_names[ord("s")] == "s"
    assert data.class_names[10] == "\\n"


def test_characters_are_an_alphabet_of_all_splits(tmp_path: Path) -> None:
    write(tmp_path / "train.txt", "abba" * 4)
    write(tmp_path / "test.txt", "cαb" * 4)
    data = open_data(f"tokens:{tmp_path},tokenizer=characters", frames=3, tokens=IN_TIME)
    assert data.class_names == ("none", "a", "b", "c", "α")
    assert data.test.images[0, :, 0].tolist() == [3, 4, 2]  # type: ignore[union-attr]
    assert data.describe()["alphabet"] == "abcα"
    tokenizer = Tokenizer("characters", "abc")
    assert tokenizer.encode("cab", "it").tolist() == [3, 1, 2]
    for alphabet in ("abc", ""):
        with pytest.raises(DataError, match="it has the character 'd', which is none of the"):
            Tokenizer("characters", alphabet).encode("d", "it")


def test_labelled_lines_are_cut_and_filled(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", LINES)
    data = open_data(f"tokens:{path},test=0.5", frames=9, tokens=AT_ONCE)
    assert (data.target, data.class_names) == ("classes", ("bad", "good"))
    assert (len(data.train), len(data.test)) == (2, 2)
    every = torch.cat([data.train.images, data.test.images])  # type: ignore[union-attr]
    rows = {bytes(row).decode() for row in every.tolist()}
    assert rows == {"a fine", "dull\0\0", "great\0", "poor p"}


def test_a_corpus_of_tokens_and_arrays_of_a_program(tmp_path: Path) -> None:
    corpus = np.arange(40, dtype=np.uint16) % 7
    np.save(tmp_path / "a.npy", corpus)
    data = open_data(f"tokens:{tmp_path / 'a.npy'},test=0.5", frames=4, tokens=TokenInput(7, 1))
    assert data.classes == 7
    x, y = corpus[:-4].reshape(9, 4), corpus[1:-3].reshape(9, 4)
    same = open_data(in_memory((x, y)), tokens=TokenInput(7, 1))
    assert torch.equal(data.train.images, same.train.images[:4])  # type: ignore[union-attr]
    assert torch.equal(data.train.labels, same.train.labels[:4])
    tagged = open_data(
        in_memory((x, np.where(y > 3, -100, y.astype(int)))), tokens=TokenInput(7, 4)
    )
    assert (tagged.target, tagged.classes) == ("pixels", 4)
    rows = [(torch.tensor(a), torch.tensor(b)) for a, b in zip(x, y, strict=True)]
    read = open_data(in_memory(Subset(rows, range(9))), tokens=TokenInput(7, 1))
    assert (read.target, read.events) == ("steps", True)
    assert torch.equal(read.train[3][0], same.train[3][0])
    assert torch.equal(read.train[3][1], same.train[3][1])
    labelled = open_data(in_memory((x, list("abcabcabc"))), tokens=TokenInput(7, 4))
    assert (labelled.target, labelled.train[0][0].tolist()) == ("classes", [0, 1, 2, 3])


def test_tables_of_hugging_face(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    columns = {"text": ["a fine film", "dull", "great", "poor"], "label": [1, 0, 1, 0]}
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["bad", "good"])}
    )
    datasets.Dataset.from_dict(columns, features).save_to_disk(str(tmp_path / "a"))
    data = open_data(f"huggingface:{tmp_path / 'a'},test=0.5", tokens=AT_ONCE)
    assert (data.class_names, data.target, len(data.train)) == (("bad", "good"), "classes", 2)
    ids = {"input_ids": [[1, 2, 3], [4]], "label": [0, 1]}
    datasets.Dataset.from_dict(ids).save_to_disk(str(tmp_path / "b"))
    data = open_data(f"huggingface:{tmp_path / 'b'},test=train", tokens=TokenInput(5, 4))
    assert data.train.images.tolist() == [[1, 2, 3, 0], [4, 0, 0, 0]]  # type: ignore[union-attr]
    plain = datasets.Dataset.from_dict({"text": ["spikes fire", "and rest"]})
    plain.save_to_disk(str(tmp_path / "c"))
    data = open_data(f"huggingface:{tmp_path / 'c'},test=train", frames=5, tokens=IN_TIME)
    assert bytes(data.train.images.flatten().tolist()) == b"spikes fire\nand rest"[:15]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (
            {"input_ids": [[0.5, 1.0], [2.0, 3.0]]},
            r"has \[0.5, 1.0\], which is no text and no whole numbers",
        ),
        ({"text": ["a", None]}, "has None, which is no text"),
        ({"input_ids": [[1, 2], [3, 4]]}, ""),
    ],
)
@pytest.mark.parametrize("labels", [{}, {"label": [0, 1]}])
def test_columns_that_are_no_texts(
    tmp_path: Path, column: dict[str, list[object]], labels: dict[str, list[int]], words: str
) -> None:
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict(column | labels).save_to_disk(str(tmp_path / "a"))
    with pytest.raises(DataError, match=words) if words else nullcontext():
        data = open_data(f"huggingface:{tmp_path / 'a'},test=train", frames=2, tokens=IN_TIME)
        assert data.train.images.flatten()[:2].tolist() == [1, 2]  # type: ignore[union-attr]


def test_a_tokenizer_of_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    path = write(tmp_path / "a.txt", TEXT)
    text = f"tokens:{path},test=0.4,tokenizer={tmp_path / 'own.json'}"
    with pytest.raises(DataError, match=r"pip install 'danetc\[tokenizers\]'"):
        open_data(text, frames=4, tokens=IN_TIME)
    monkeypatch.undo()
    tokenizers = pytest.importorskip("tokenizers")
    words = {"spikes": 0, "fire": 1, ",": 2, "and": 3, "neurons": 4, "rest": 5, ".": 6}
    made = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="."))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made.save(str(tmp_path / "own.json"))
    data = open_data(text, frames=4, tokens=TokenInput(7, 1))
    assert data.class_names == tuple(words)
    assert data.train.images[0, :, 0].tolist() == [0, 1, 2, 3]  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"the tokenizer .* cannot be loaded"):
        open_data(text.replace("own", "none"), frames=4, tokens=IN_TIME)


@pytest.mark.parametrize(
    ("file", "content", "options", "words"),
    [
        ("a.txt", TEXT, "", "is one file; hold out a share to test on, as in ,test=0.1"),
        ("a.txt", "ab", ",test=0.5", r"a.txt \(train\) has 1 tokens, fewer than the 5"),
        ("a.tsv", "", ",test=0.5", r"a.tsv \(train\) has no texts"),
        ("a.tsv", "good film", ",test=0.5", r"a.tsv:1 has no tab between its label and its text"),
        ("a.txt", "über" * 9, ",test=0.1", "has the token 195 at place 0 of sample 0, but the"),
    ],
)
def test_what_is_wrong_is_said(
    tmp_path: Path, file: str, content: str, options: str, words: str
) -> None:
    path = write(tmp_path / file, content)
    with pytest.raises(DataError, match=words):
        open_data(f"tokens:{path}{options}", frames=4, tokens=TokenInput(128, 1))


def test_arrays_that_are_no_tokens_are_refused() -> None:
    x, y = np.zeros((4, 3), np.int64), np.zeros(4, np.int64)
    for wrong, words in (
        (x.astype(np.float32), "the type float32, but the network takes tokens"),
        (np.zeros((4, 3, 8, 8), np.uint8), r"the shape \[4, 3, 8, 8\]"),
        (x - 1, "has the token -1 at place 0 of sample 0"),
    ):
        with pytest.raises(DataError, match=words):
            open_data(in_memory((wrong, y)), tokens=IN_TIME)
    with pytest.raises(DataError, match=r"negative classes.*-100 marks"):
        open_data(in_memory((x, x - 1)), tokens=IN_TIME)
    with pytest.raises(DataError, match="set --steps, or name a network"):
        open_data(f"tokens:{__file__},test=0.1")
