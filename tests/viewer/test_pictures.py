"""Every picture draws, tells what it shows, stays small, and keeps its texts apart."""

import functools
import math
import warnings
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg

from attnkit import viewer
from attnkit.viewer import cells, palette, sheet

WORDS = ["cat", "dog", "car", "bus", "tree"]
X = torch.tensor([[1.9, 1.1], [1.2, 1.9], [-1.7, 1.0], [-2.0, -0.3], [0.5, -2.0]])
KEEP = torch.ones(5, 5, dtype=torch.bool).tril()
SCORES = X @ X.T / math.sqrt(2)
WEIGHTS = SCORES.masked_fill(~KEEP, -math.inf).softmax(-1)
SENTENCES = [f"The bank {verb} the money." for verb in ("lent", "kept", "lost", "took")]
SENTENCES += [f"The bank {verb} into the river." for verb in ("slid", "fell", "sank", "ran")]
TRACKS = torch.tensor([2.0, 2.0, 1.9, 1.8, -2.0, -2.0, -1.9, -1.9])[:, None] * torch.linspace(0, 1, 7)
LOSSES = {f"model {i}": 2.3 * torch.sigmoid((10.0 + 6 * i - torch.arange(60.0)) / 3) for i in range(5)}
ANGLES = torch.linspace(0, 6.2, 40)
CIRCLE = torch.stack([ANGLES.cos(), ANGLES.sin()], dim=1)
GRADIENT = torch.linspace(0.3, 0.0, 4)


def strip() -> viewer.Picture:
    return viewer.steps(
        viewer.box("x", X),
        viewer.box("scores", SCORES, by="x @ x.T\n/ √2", columns=True),
        viewer.box("mask", KEEP, by="& causal", kind="mask", columns=True),
        viewer.box(
            "weights", WEIGHTS, by="softmax", kind="weights", keep=KEEP, columns=True, note="rows sum to 1"
        ),
        viewer.box("context", WEIGHTS @ X, by="weights @ x"),
        words=WORDS,
        title="A word reads only what came before",
    )


PICTURES = {
    "steps": strip,
    "weights": lambda: viewer.weights(WEIGHTS, WORDS, marked=[(1, 0)]),
    "heads": lambda: viewer.heads(WEIGHTS.expand(6, 12, 5, 5), words=WORDS, marked={(0, 2): "the one"}),
    "one layer of heads": lambda: viewer.heads(WEIGHTS.expand(2, 5, 5), words=WORDS, marked={1: "the one"}),
    "mask": lambda: viewer.mask(KEEP, WORDS),
    "entropy": lambda: viewer.entropy(WEIGHTS, WORDS),
    "vectors": lambda: viewer.vectors(dict(zip(WORDS, X, strict=True)), notes={"cat": "4.8"}),
    "mixture": lambda: viewer.mixture(X, torch.full((5,), 0.2), WORDS),
    "hull": lambda: viewer.hull(X, {size: (size * CIRCLE @ X.T).softmax(-1) @ X for size in (0.5, 4)}, WORDS),
    "fingerprint": lambda: viewer.fingerprint(KEEP.float()),
    "fingerprints": lambda: viewer.fingerprints({str(i): torch.ones(4, 4).tril(i) for i in range(8)}),
    "fan": lambda: viewer.fan(TRACKS, SENTENCES, ["money"] * 4 + ["river"] * 4, guesses={"?": TRACKS[0] / 9}),
    "curves": lambda: viewer.curves(LOSSES, xlabel="step", ylabel="loss", guessing=2.3),
    "dumbbells": lambda: viewer.dumbbells({"correct": (1, 1), "off by one": (1, 0.13)}, guessing=0.1),
    "bars": lambda: viewer.bars({"scores": {"a": 2, "b": -1}, "weights": {"a": 0.9, "b": 0.1}}),
    "histograms": lambda: viewer.histograms({"rand": torch.rand(3, 9), "randn": torch.randn(20)}),
    "table": lambda: viewer.table(["a", "b"], ["one\ntest", "two"], [[True, (False, "13 %")], [None, 0.5]]),
    "grid": lambda: viewer.grid(
        viewer.weights(WEIGHTS, WORDS), viewer.curves(LOSSES), columns=1, title="both"
    ),
    "sinks": lambda: viewer.sinks(WEIGHTS.expand(2, 5, 5), WEIGHTS.expand(2, 5, 5), word="[CLS]"),
    "pairs": lambda: viewer.pairs([("It was tired / wide", "street", "animal", 0.5, 0.2)]),
    "saturation": lambda: viewer.saturation([1, 4, 16, 64], *[(torch.rand(4, 9), GRADIENT, GRADIENT)] * 2),
    "powers": lambda: viewer.powers([1, 4, 16], {"spread": [1, 2, 4]}, slopes={"spread": ("root", 0.5)}),
    "cost": lambda: viewer.cost([128, 256], [1e-4, 4e-4], linear=[1e-5, 2e-5]),
    "split_columns": lambda: viewer.split_columns(12, 3),
    "looks": lambda: viewer.looks(torch.rand(5, 3, 8, 8), torch.rand(5, 2, 2), WORDS, columns=2),
    "cards": lambda: viewer.cards(WEIGHTS[:2], WORDS, ["head 0", "head 1"], "Two heads"),
}


@functools.cache
def drawn(name: str) -> viewer.Picture:
    return PICTURES[name]()


@functools.cache
def boxes_of_texts(picture: viewer.Picture) -> list[tuple[str, Any]]:
    """Every text that is drawn, with its bounding box in dots; ticks outside an axis are not drawn."""
    canvas = FigureCanvasAgg(picture.figure)
    canvas.draw()
    texts = []
    for axes in picture.figure.axes:
        texts += axes.texts
        for axis in (axes.xaxis, axes.yaxis) if axes.axison else ():
            low, high = sorted(axis.get_view_interval())
            texts += [axis.label] + [
                tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high
            ]
    return [
        (text.get_text(), text.get_window_extent())
        for text in texts
        if text.get_text() and text.get_visible()
    ]


def written(picture: viewer.Picture) -> list[str]:
    return [text for text, _ in boxes_of_texts(picture)]


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_a_small_png(name):
    png = drawn(name).png()
    assert png.startswith(b"\x89PNG")
    assert 1_000 < len(png) < 100_000


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_has_one_sentence_for_who_cannot_see_it(name):
    alt = drawn(name).alt
    assert alt.endswith(".")
    assert "\n" not in alt
    assert len(alt) > 20


@pytest.mark.parametrize("name", [name for name in PICTURES if name not in ("heads", "one layer of heads")])
def test_no_text_covers_another(name):
    found = boxes_of_texts(drawn(name))
    for i, (one, box) in enumerate(found):
        for other, beside in found[:i]:
            across = min(box.x1, beside.x1) - max(box.x0, beside.x0)
            down = min(box.y1, beside.y1) - max(box.y0, beside.y0)
            # one dot of overlap is the line spacing of neighbouring rows
            assert min(across, down) <= 1.0, f"{one!r} covers {other!r}"


@pytest.mark.parametrize("name", PICTURES)
def test_every_text_lies_on_the_card(name):
    picture = drawn(name)
    width, height = picture.figure.canvas.get_width_height()
    for text, box in boxes_of_texts(picture):
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -1, text


def test_arrows_that_point_the_same_way_keep_their_names_apart():
    near = {"kitten": (1.9, 1.1), "cat": (1.9, 1.12), "dog": (1.88, 1.15), "puppy": (1.87, 1.2)}
    found = boxes_of_texts(viewer.vectors(near))
    assert not any(one.overlaps(other) for i, (_, one) in enumerate(found) for _, other in found[:i])


def test_the_strip_holds_the_weights_with_two_digits():
    # the second row by hand: softmax of (1.2*1.9 + 1.9*1.1, 1.2**2 + 1.9**2) / sqrt(2) = softmax(3.09, 3.57)
    picture = viewer.steps(viewer.box("weights", WEIGHTS, kind="weights", keep=KEEP), words=WORDS)
    assert [text for text in written(picture) if "." in text][1:3] == ["0.38", "0.62"]


def test_signed_numbers_stand_in_their_cells_with_one_digit():
    picture = viewer.steps(viewer.box("x", torch.tensor([[1.25001, -0.04], [-2.0, 100.0]])), words=["a", "b"])
    assert [text for text in written(picture) if text[-1].isdigit() and "," not in text] == [
        "1.3",
        "0.0",
        "\u22122.0",
        "100",
    ]


def test_hidden_cells_hold_no_number():
    hidden = viewer.steps(viewer.box("scores", SCORES, keep=KEEP), words=WORDS)
    shown = viewer.steps(viewer.box("scores", SCORES), words=WORDS)
    # 25 cells, of which 10 lie above the diagonal
    assert len(written(shown)) - len(written(hidden)) == 10


def test_a_map_of_nine_holds_no_numbers():
    assert not any("." in text for text in written(viewer.weights(torch.rand(9, 9), None)))


@pytest.mark.parametrize("largest", [0.2, 1.0])
def test_the_colour_of_a_weight_does_not_depend_on_its_neighbours(largest):
    color = cells.colored("weights", numpy.array([[0.1, largest]], dtype=numpy.float32))[0, 0]
    numpy.testing.assert_allclose(color, colormaps["Blues"](numpy.float32(0.1)))


def test_signed_colours_are_symmetric():
    # RdBu runs through the same lightness on both sides of its middle, so entries 3 and -3 are equally far from it
    above, below = cells.colored("signed", numpy.array([[3.0, -3.0]], dtype=numpy.float32))[0]
    steps = colormaps["RdBu_r"](numpy.linspace(0, 1, 256))
    at = [int(numpy.abs(steps - color).sum(axis=1).argmin()) for color in (above, below)]
    assert abs(at[0] + at[1] - 255) <= 1


def test_sixty_words_are_thinned_until_they_can_be_read():
    words = [f"word{i}" for i in range(60)]
    texts = written(viewer.weights(torch.rand(60, 60), words))
    assert "word0" in texts
    assert len(texts) < 70


def test_a_number_stands_beside_the_marked_cell_of_a_large_map():
    weights = torch.zeros(16, 16)
    weights[10, 2] = 0.677
    assert "0.68" in written(viewer.weights(weights, None, marked=[(10, 2)]))


def test_unnamed_curves_show_letters():
    texts = written(viewer.curves(LOSSES, named=False))
    assert {"A", "B", "C", "D", "E"} <= set(texts)
    assert "model 0" not in texts


def test_a_fingerprint_counts_the_cells_of_the_future():
    # a mask that is off by one lets 7 of 8 outputs read the next token
    assert "reads the future: 7 of 28 cells" in written(viewer.fingerprint(torch.ones(8, 8).tril(1)))


def test_an_honest_fingerprint_reads_no_future():
    assert "reads no future" in written(viewer.fingerprint(torch.ones(8, 8).tril()))


def test_sinks_state_the_share_of_the_first_column():
    read = torch.tensor([[[0.6, 0.4], [0.6, 0.4]]])
    # what is moved: 0.6 * 0.1 against 0.4 * 0.9, so 0.06 / 0.42 = 14 %
    texts = written(viewer.sinks(read, read * torch.tensor([0.1, 0.9])))
    assert {"60 %", "14 %"} <= set(texts)


def test_entropy_is_relative_to_the_largest():
    # two of four keys alike: log 2 / log 4 = 0.5
    assert "0.50" in written(viewer.entropy(torch.tensor([[0.5, 0.5, 0.0, 0.0]]), ["half"]))


def test_a_strip_that_is_too_wide_starts_a_new_line():
    one = viewer.steps(*[viewer.box("x", SCORES)] * 2, words=WORDS)
    many = viewer.steps(*[viewer.box("x", SCORES)] * 8, words=WORDS)
    assert many.size[1] > 1.8 * one.size[1]
    assert many.size[0] < 13


def test_a_notebook_shows_the_picture_and_its_sentence():
    bundle = viewer.mask(KEEP, WORDS)._repr_mimebundle_()
    assert bundle["text/plain"].startswith("A mask: 15 of 25 cells may be read")
    assert bundle["image/png"].startswith("iVBOR")


def test_a_picture_saves_in_the_form_of_its_ending(tmp_path: Path):
    viewer.mask(KEEP, WORDS).save(tmp_path / "mask.svg")
    assert "<svg" in (tmp_path / "mask.svg").read_text(encoding="utf-8")


def test_a_picture_keeps_what_it_was_given_when_the_tensor_changes():
    weights = torch.eye(2)
    picture = viewer.weights(weights, ["a", "b"])
    weights.zero_()
    assert written(picture).count("1.00") == 2


def test_gradients_and_half_precision_do_not_matter():
    weights = torch.eye(2, dtype=torch.bfloat16, requires_grad=True)
    assert written(viewer.weights(weights, ["a", "b"])).count("1.00") == 2


def test_dollar_signs_in_words_are_only_dollar_signs():
    picture = viewer.weights(torch.eye(2), ["$x_1$", "b"])
    assert not any(text.get_parse_math() for axes in picture.figure.axes for text in axes.texts)


def test_signs_that_no_font_has_are_drawn_without_a_warning(tmp_path: Path):
    picture = viewer.weights(torch.eye(3), ["\u9280\u884c", "\U0001f642", "\ue000"], title="\U0001f642")
    assert picture.png().startswith(b"\x89PNG")
    picture.save(tmp_path / "signs.svg")


def test_other_warnings_of_matplotlib_are_heard():
    with pytest.warns(UserWarning, match="heard"), sheet.without_glyph_warnings():
        warnings.warn("this one should be heard", stacklevel=1)


def test_a_font_that_is_installed_comes_after_ours(monkeypatch):
    monkeypatch.setattr(
        palette, "MORE_FONTS", ("No Such Font", "STIXGeneral")
    )  # the second comes with matplotlib
    assert sheet.families.__wrapped__() == ["DejaVu Sans", "STIXGeneral"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ([math.nan, 1.0], "'a' is nan; "),
        ([0.0, 0.0], "'a' reads nothing; "),
        ([0.2, 0.8], "'a' reads 'b' most (0.80); "),
    ],
)
def test_the_sentence_says_what_a_row_reads_if_anything(row, words):
    assert words in viewer.weights(torch.tensor([row, [1.0, 0.0]]), ["a", "b"]).alt


@pytest.mark.parametrize(
    "draw",
    [
        lambda word: viewer.vectors({word: (1, 0), "b": (0, 1)}),
        lambda word: viewer.vectors({word: (0, 0)}),
        lambda word: viewer.mixture(X[:2], torch.tensor([0.5, 0.5]), [word, word + "s"]),
        lambda word: viewer.hull(X[:3], {1: X[:3]}, [word, "b", word + "s"]),
        lambda word: viewer.weights(torch.eye(2), [word, "b"]),
    ],
)
def test_a_very_long_word_stays_on_the_card(draw):
    picture = draw("antidisestablishmentarianism")
    width, height = picture.figure.canvas.get_width_height()
    for text, box in boxes_of_texts(picture):
        assert min(box.x0, box.y0, width - box.x1, height - box.y1) > -1, text


def test_dots_with_a_law_lie_on_its_line_alone_and_others_are_joined():
    picture = viewer.powers([1, 4, 16], {"law": [1, 2, 4], "other": [1, 3, 4]}, slopes={"law": ("root", 0.5)})
    axes = next(axes for axes in picture.figure.axes if axes.axison)
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    assert [line.get_linestyle() for line in dots] == ["None", "-"]
    law = next(line for line in axes.lines if line.get_marker() != "o")
    assert law.is_dashed()
    numpy.testing.assert_allclose(law.get_ydata(), [1, 2, 4])
    assert "root" in written(picture)


def test_a_curve_that_ends_in_nan_has_its_name_where_it_broke_off():
    picture = viewer.curves(
        {"broken": torch.tensor([1.0, 2.0, math.nan]), "whole": torch.tensor([1.0, 2.0, 9.0])}
    )
    names = {text.get_text(): text for axes in picture.figure.axes for text in axes.texts}
    assert numpy.isfinite(names["broken"].get_position()).all()


def test_one_huge_number_does_not_shrink_the_others():
    picture = viewer.steps(viewer.box("x", torch.tensor([[1e6, -1e-9], [-12345.0, 2.0]])), words=["a", "b"])
    assert [text for text in written(picture) if text[-1].isdigit()] == ["1e6", "0.0", "\u22121e4", "2.0"]


def test_a_hundred_rows_of_entropy_fit_a_screen():
    assert viewer.entropy(torch.eye(100), None).size[1] < 8


@pytest.mark.parametrize("count", [1, 40, 100])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float64])
def test_maps_of_any_length_and_precision_stay_small(count, dtype):
    weights = (3 * torch.randn(count, count)).softmax(-1).to(dtype).requires_grad_()
    words = [f"word{i}" for i in range(count)]
    pictures = [
        viewer.weights(weights, words),
        viewer.mask(weights.tril() > 0, words),
        viewer.heads(weights[None], words=words),
        viewer.fingerprint(weights),
        viewer.steps(viewer.box("weights", weights, kind="weights", columns=True), words=words),
    ]
    assert max(len(picture.png()) for picture in pictures) < 100_000
