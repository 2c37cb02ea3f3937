"""A user's arrays and texts: which are images, labels or tokens, and their layouts, types and targets."""

import re
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Subset

from danetc.runtime.data.arrays import images_of, labels_of
from danetc.runtime.data.dataset import Memory
from danetc.runtime.data.registry import open_data
from danetc.runtime.data.request import IGNORED, TokenInput
from danetc.runtime.data.sources.python import in_memory
from danetc.runtime.data.texts import Tokenizer
from danetc.runtime.system.errors import DataError

from .conftest import refused, saved

DICE = np.random.default_rng(0)


def save(path: Path, **arrays: Any) -> str:
    np.savez(path / "a.npz", **arrays)
    return str(path / "a.npz")


def test_arrays_are_known_by_usual_names(tmp_path: Path) -> None:
    x = DICE.integers(0, 256, (10, 3, 4, 5), dtype=np.uint8)
    y = np.arange(10) % 3
    for names in (
        ("x_train", "y_train", "x_test", "y_test"),
        ("train_images", "train_labels", "test_images", "test_labels"),
        ("X_train", "Y_train", "X_val", "Y_val"),
        ("trainX", "trainY", "testX", "testY"),
        ("training-data", "training-targets", "valid-data", "valid-targets"),
    ):
        named = dict(zip(names, (x[:6], y[:6], x[6:], y[6:]), strict=True))
        data = open_data(save(tmp_path, **named))
        assert np.array_equal(data.train.images, x[:6])  # type: ignore[union-attr]
        assert np.array_equal(data.test.labels, y[6:])
        assert isinstance(data.test, Memory)
        found = data.shape, data.class_names, data.target
        assert found == ((3, 4, 5), ("0", "1", "2"), "classes")


def test_arrays_of_other_names_and_splits_are_chosen(tmp_path: Path) -> None:
    x, y = DICE.random((20, 4, 4)), np.arange(20) % 2
    text = save(
        tmp_path, pictures=x[:12], kinds=y[:12], x_train=x, y_train=y, x_val=x[:4], y_val=y[:4],
        x_test=x[4:9], y_test=y[4:9], class_names=np.array(["even", "odd"]),
    )  # fmt: skip
    usual = open_data(text)
    assert (len(usual.train), len(usual.test), usual.class_names) == (20, 4, ("even", "odd"))
    assert len(open_data(f"{text},test=test").test) == 5
    (tmp_path / "names").write_text("no\nyes\nmaybe\n")
    own = open_data(f"{text},train=pictures;kinds,test=val,classes={tmp_path / 'names'}")
    assert (len(own.train), own.class_names) == (12, ("no", "yes", "maybe"))
    held = open_data(f"{text},test=0.25")
    assert (len(held.train), len(held.test)) == (16, 4)  # 7.5 of 10 per class, rounded to 8


def test_layouts_and_types_become_those_of_images() -> None:
    last = DICE.random((5, 8, 9, 3))
    found = images_of(last, "x")
    assert np.array_equal(found, np.moveaxis(last, -1, 1).astype(np.float32))
    assert images_of(np.zeros((5, 8, 9)), "x").shape == (5, 1, 8, 9)
    assert images_of(np.zeros((5, 7)), "x").shape == (5, 7, 1, 1)
    assert images_of(np.zeros((5, 3, 8, 3)), "x").shape == (5, 3, 8, 3)  # ambiguous: channels first
    assert images_of(np.zeros((5, 3, 8, 3)), "x", True).shape == (5, 3, 3, 8)
    frames = images_of(np.full((2, 4, 2, 8, 8), 700), "x")
    assert frames.dtype == torch.float32
    assert frames.max() == 700
    assert images_of(np.arange(256).reshape(1, 16, 16), "x").dtype == torch.uint8
    for wrong, told in (
        (np.full((1, 8, 8), 300), "whole numbers from 300 to 300"),
        (np.full((1, 8, 8), 1e300), "not finite, or too large for float32"),
        (np.array(["a"] * 64).reshape(1, 8, 8), "not numbers"),
        (np.zeros(4), "the shape [4]"),
    ):
        with pytest.raises(DataError, match=re.escape(told)):
            images_of(wrong, "x")


def test_labels_say_what_is_learned() -> None:
    def target(y: Any, **asked: Any) -> tuple[str, list[int]]:
        found = labels_of(np.asarray(y), "y", **asked)
        return found.target, list(found.values.shape)

    assert target([0, 2, 1]) == ("classes", [3])
    assert target([[0], [2], [1]]) == ("classes", [3])
    assert target([0.5, 1.0]) == ("numbers", [2, 1])
    assert target([[0.5, 1.0]]) == ("numbers", [1, 2])
    assert target(np.zeros((2, 4, 4), int)) == ("pixels", [2, 4, 4])
    named = labels_of(np.array(["owl", "cat", "owl"]), "y")
    assert (named.values.tolist(), named.names) == ([1, 0, 1], ("cat", "owl"))
    mask = labels_of(np.array([[[0, 255], [1, 2]]]), "y").values
    assert mask.tolist() == [[[0, IGNORED], [1, 2]]]
    for wrong, asked, told in (
        ([10**6], {}, "floats are for a regression"),
        ([[1, 0], [0, 1]], {}, "the shape [2, 2] and the type int64; labels are [N]"),
        (np.zeros((2, 4, 4)), {}, "the shape [2, 4, 4] and the type float64; labels are [N] names"),
        (["fox"], {"classes": ("cat", "owl")}, "`fox`, which is not one of cat, owl"),
        ([np.inf], {}, "not finite"),
    ):
        with pytest.raises(DataError, match=re.escape(told)):
            target(wrong, **asked)


X, Y = np.zeros((4, 2, 2), np.uint8), [0, 1, 0, 1]
USUAL = {"x_train": X, "y_train": Y, "x_test": X, "y_test": Y}
SHAPES = {"[0]": [], "[]": 1, "[4, 0]": np.zeros((4, 0)), "[0, 3, 3]": np.zeros((0, 3, 3))}
NO_TEXT = np.full(4, 0x110000, np.uint32).view("<U1"), np.array([b"\xff"] * 4)


def test_wrong_arrays_are_named(here: Path) -> None:
    def wrong(told: str, options: str, **arrays: Any) -> None:
        refused(told, save(here, **arrays) + options)

    told = "no images and labels of `val` or `test` (say ,test=NAME; every epoch is tested on one"
    wrong(f"has {told}", "", x=X, y=Y)
    wrong("a share is between 0 and 1", ",test=1.5", x=X, y=Y)
    wrong("there is no file nowhere", ",test=0.5,classes=nowhere", x=X, y=Y)
    wrong("leaves none to test on", ",test=0.001", x=X, y=Y)
    told = "train=IMAGES;LABELS (it holds pictures, kinds)"
    wrong(told, ",test=0.5", pictures=X, kinds=Y)
    wrong("did you mean `y_train`?", ",test=x_train;y_tarin", x_train=X, y_train=Y)
    objects = np.array([{}], dtype=object)
    wrong("Python objects, not numbers", "", **{**USUAL, "x_train": objects})
    few = {"x_train": np.zeros((3, 4, 4)), "y_train": [0, 1]}
    wrong("has 3 images and 2 labels", "", **{**USUAL, **few})
    told = "the label array of a.npz (train) "
    for shape, labels in SHAPES.items():
        wrong(f"{told}has the shape {shape} and", "", **{**USUAL, "y_train": labels})
    for names in NO_TEXT:
        wrong(f"{told}holds names that are not text", "", **{**USUAL, "y_train": names})
        told_of = f"`class_names` of {here}/a.npz holds names that are not"
        wrong(told_of, "", **USUAL, class_names=names)


def test_damaged_files_are_named(tmp_path: Path) -> None:
    def header(shape: object) -> bytes:
        return b"{'descr': '<i8', 'fortran_order': False, 'shape': %s}" % str(shape).encode()

    for described in (
        header((4,))[:-3],
        *map(header, ((8 * 10**14,), (10**22 - 1,), (-4,))),
        header((4,)).replace(b"'descr'", b"b'descr'"),
        None,
    ):
        path = save(tmp_path, x_train=X, x_test=X, y_test=Y)
        member = b"no array"
        if described is not None:
            member = b"\x93NUMPY\1\0" + len(described).to_bytes(2, "little") + described + bytes(32)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("y_train.npy", member)
        refused(f"`y_train` of {path} cannot be read: ", path)
    whole = Path(save(tmp_path, **USUAL)).read_bytes()
    for data in (b"no archive", saved(np.save, X) + whole):  # an npy file in front of an archive
        Path(path).write_bytes(data)
        refused("a.npz cannot be read: it is not a file of numpy.savez", path)


# -- texts as tokens --------------------------------------------------------------------------------


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
    tags = np.where(y > 3, -100, y.astype(int))
    tagged = open_data(in_memory((x, tags)), tokens=TokenInput(7, 4))
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
    label = datasets.ClassLabel(names=["bad", "good"])
    features = datasets.Features({"text": datasets.Value("string"), "label": label})
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


@pytest.mark.parametrize("labels", [{}, {"label": [0, 1]}])
def test_columns_that_are_no_texts(tmp_path: Path, labels: Any) -> None:
    datasets = pytest.importorskip("datasets")

    def made(name: str, **columns: Any) -> str:
        datasets.Dataset.from_dict(columns | labels).save_to_disk(str(tmp_path / name))
        return f"huggingface:{tmp_path / name},test=train"

    given: Any = {"frames": 2, "tokens": IN_TIME}
    told = "has [0.5, 1.0], which is no text and no whole numbers"
    refused(told, made("a", input_ids=[[0.5, 1.0], [2.0]]), **given)
    refused("has None, which is no text", made("b", text=["a", None]), **given)
    found: Any = open_data(made("c", input_ids=[[1, 2], [3, 4]]), **given).train
    assert found.images.flatten()[:2].tolist() == [1, 2]


def test_a_tokenizer_of_the_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    path = write(tmp_path / "a.txt", TEXT)
    text = f"tokens:{path},test=0.4,tokenizer={tmp_path / 'own.json'}"
    refused("pip install 'danetc[tokenizers]'", text, frames=4, tokens=IN_TIME)
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


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    for file, content, options, words in (
        ("a.txt", TEXT, "", "is one file; hold out a share to test on, as in ,test=0.1"),
        ("a.txt", "ab", ",test=0.5", "a.txt (train) has 1 tokens, fewer than the 5"),
        ("a.tsv", "", ",test=0.5", "a.tsv (train) has no texts"),
        ("a.tsv", "good film", ",test=0.5", "a.tsv:1 has no tab between its label and its text"),
        ("a.txt", "über" * 9, ",test=0.1", "has the token 195 at place 0 of sample 0, but the"),
    ):
        path = write(tmp_path / file, content)
        refused(words, f"tokens:{path}{options}", frames=4, tokens=TokenInput(128, 1))


def test_arrays_that_are_no_tokens_are_refused() -> None:
    x, y = np.zeros((4, 3), np.int64), np.zeros(4, np.int64)
    floats, maps = x.astype(np.float32), np.zeros((4, 3, 8, 8), np.uint8)
    for wrong, words in (
        ((floats, y), "the type float32, but the network takes tokens"),
        ((maps, y), "the shape [4, 3, 8, 8]"),
        ((x - 1, y), "has the token -1 at place 0 of sample 0"),
    ):
        refused(words, in_memory(wrong), tokens=IN_TIME)
    with pytest.raises(DataError, match=r"negative classes.*-100 marks"):
        open_data(in_memory((x, x - 1)), tokens=IN_TIME)
    refused("set --steps, or name a network", f"tokens:{__file__},test=0.1")
