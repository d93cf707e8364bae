"""What a picture refuses, in words that say what to give instead."""

import math
import subprocess
import sys

import pytest
import torch

from attnkit import viewer
from attnkit.errors import AttentionError, DtypeError, OptionError, ShapeError, UnknownNameError

pytestmark = pytest.mark.messages

SQUARE = torch.eye(3)
THREE = ["a", "b", "c"]
PICTURE = viewer.mask(SQUARE > 0, THREE)

REFUSED = {
    "a batch": (lambda: viewer.weights(SQUARE[None], THREE), ShapeError, r"shape \(1, 3, 3\)(?s:.*)x\[0\]"),
    "too few words": (
        lambda: viewer.weights(SQUARE, ["a"]),
        ShapeError,
        "queries has 1 labels; the picture has 3",
    ),
    "a sentence": (lambda: viewer.weights(SQUARE, "a b c"), ShapeError, r"'a b c'\.split\(\)"),
    "keys": (lambda: viewer.weights(SQUARE[:2], THREE[:2], ["a"]), ShapeError, "keys has 1 labels"),
    "a cell outside": (
        lambda: viewer.weights(SQUARE, THREE, marked=[(3, 0)]),
        OptionError,
        r"\(3, 0\) lies outside",
    ),
    "a column outside": (
        lambda: viewer.weights(SQUARE, THREE, marked=[(0, 3)]),
        OptionError,
        r"\(0, 3\) lies outside 3 rows and 3 columns",
    ),
    "nothing": (lambda: viewer.weights(torch.ones(0, 3), []), ShapeError, "nothing to draw"),
    "words": (lambda: viewer.weights(["a"], ["a"]), DtypeError, "does not turn into a tensor"),
    "complex": (lambda: viewer.weights(SQUARE + 1j, THREE), DtypeError, "complex"),
    "a head": (lambda: viewer.heads(SQUARE[None], marked={4: "x"}), OptionError, "no head 4 in layer 0"),
    "two axes": (lambda: viewer.heads(SQUARE), ShapeError, "layers, heads, q_len, kv_len"),
    "a kind": (lambda: viewer.box("w", SQUARE, kind="weight"), UnknownNameError, "did you mean 'weights'"),
    "a small keep": (lambda: viewer.box("w", SQUARE, keep=SQUARE[:2]), ShapeError, "differ in shape"),
    "a bare tensor": (lambda: viewer.steps(SQUARE, words=THREE), OptionError, "wrap each tensor"),
    "words for no box": (
        lambda: viewer.steps(viewer.box("x", SQUARE), words=["a"]),
        ShapeError,
        "1 words, but",
    ),
    "no boxes": (lambda: viewer.steps(words=THREE), OptionError, "boxes is empty"),
    "three numbers": (lambda: viewer.vectors({"a": (1, 2, 3)}), ShapeError, "'a' has 3 numbers"),
    "space": (lambda: viewer.mixture(torch.ones(3, 4), torch.ones(3), THREE), ShapeError, r"values\[:, :2\]"),
    "loops in space": (
        lambda: viewer.hull(torch.ones(3, 2), {1: SQUARE}, THREE),
        ShapeError,
        "the plane needs",
    ),
    "an arrow to nowhere": (
        lambda: viewer.vectors({"a": (math.nan, 1)}),
        OptionError,
        "a nan or an infinite",
    ),
    "values of nan": (
        lambda: viewer.mixture(SQUARE[:, :2] * math.nan, torch.ones(3), THREE),
        OptionError,
        "values has a nan or an infinite number",
    ),
    "weights of nan": (
        lambda: viewer.mixture(SQUARE[:, :2], torch.full((3,), math.nan), THREE),
        OptionError,
        "weights has a nan",
    ),
    "tracks of nan": (
        lambda: viewer.fan(SQUARE * math.nan, THREE, THREE),
        OptionError,
        "a track or a guess has a nan",
    ),
    "sizes": (
        lambda: viewer.powers([1, 2], {"a": SQUARE[0] + 1}),
        ShapeError,
        r"x \(2,\) and curves\['a'\] \(3,\)",
    ),
    "oblong": (lambda: viewer.fingerprint(SQUARE[:2]), ShapeError, "square"),
    "negative": (lambda: viewer.fingerprint(-SQUARE), OptionError, "below zero or nan"),
    "nan": (lambda: viewer.fingerprint(SQUARE * math.nan), OptionError, "below zero or nan"),
    "groups": (lambda: viewer.fan(SQUARE, THREE, ["x"]), ShapeError, "groups has 1 labels"),
    "layers": (
        lambda: viewer.fan(SQUARE, THREE, THREE, guesses={"g": SQUARE[0, :2]}),
        ShapeError,
        r"tracks \(3,\) and guesses\['g'\] \(2,\) differ",
    ),
    "steps": (
        lambda: viewer.curves({"a": SQUARE[0]}, x=[1, 2]),
        ShapeError,
        r"x \(2,\) and curves\['a'\] \(3,\) differ",
    ),
    "percents": (lambda: viewer.dumbbells({"a": (100, 13)}), OptionError, "between 0 and 1"),
    "panels": (lambda: viewer.bars({"a": {"x": 1}, "b": {"y": 1}}), ShapeError, "different names"),
    "only nan": (lambda: viewer.histograms({"a": SQUARE * math.nan}), OptionError, "no finite number"),
    "one key": (lambda: viewer.entropy(SQUARE[:, :1], THREE), ShapeError, "nothing to choose"),
    "cells": (lambda: viewer.table(THREE, ["one"], [[True]]), ShapeError, "do not fit 3 rows and 1 columns"),
    "four entries": (lambda: viewer.pairs([("s", "a", "b", 1.0)]), ShapeError, "4 entries"),
    "moved": (lambda: viewer.sinks(SQUARE[None], SQUARE[None, :2]), ShapeError, "differ in shape"),
    "zero seconds": (lambda: viewer.cost([1, 2], [0.0, 1.0]), OptionError, "not above 0"),
    "dims": (
        lambda: viewer.saturation([1, 2], *[(SQUARE, SQUARE[0], SQUARE[0])] * 2),
        ShapeError,
        "2 head_dims",
    ),
    "five heads": (lambda: viewer.split_columns(12, 5), OptionError, "num_heads one of 1, 2, 3, 4, 6"),
    "many heads": (lambda: viewer.split_columns(96, 12), OptionError, "at most 48 columns"),
    "no picture": (lambda: viewer.grid(SQUARE), OptionError, "a Tensor is no picture"),
    "no column": (lambda: viewer.grid(PICTURE, columns=0), OptionError, "columns is 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_picture_refuses_in_words(name):
    draw, kind, message = REFUSED[name]
    assert issubclass(kind, AttentionError)
    with pytest.raises(kind, match=message):
        draw()


def test_importing_the_viewer_imports_no_matplotlib():
    code = "import sys, attnkit.viewer; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_missing_matplotlib_names_the_install_command():
    code = """
import sys
import torch
from attnkit import errors, viewer

class Nothing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError("no matplotlib", name="matplotlib")

sys.meta_path.insert(0, Nothing())
try:
    viewer.weights(torch.eye(2), ["a", "b"]).png()
except errors.AttentionError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert 'pip install "attnkit[view]"' in ran.stdout, ran.stderr
