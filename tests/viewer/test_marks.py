"""What each mark on a picture means: colours, hatches, frames, and where words and numbers stand."""

import math

import numpy
import pytest
import torch
from matplotlib.colors import to_hex

from attnkit import viewer

WORDS = ["cat", "dog", "car", "bus", "tree"]
BLUE, ORANGE = "#0072B2", "#D55E00"


def texts(picture):
    """Every text of the card by what it says; of equal ones the last."""
    return {text.get_text(): text for axes in picture.figure.axes for text in axes.texts}


def count(picture, words):
    return [text.get_text() for axes in picture.figure.axes for text in axes.texts].count(words)


def hatched(picture):
    """The extent in inches of what is hatched."""
    found = [p for axes in picture.figure.axes for p in axes.patches if p.get_hatch()]
    return [patch.get_path().get_extents().bounds for patch in found]


def colors_of_cells(picture):
    return picture.figure.axes[0].images[0].get_array()


def test_what_a_mask_hides_is_hatched():
    keep = torch.tensor([[True, False, False], [True, True, True]])
    _, _, width, height = hatched(viewer.mask(keep, ["a", "b"]))[0]
    # two of three columns, one of two rows, cells of 0.44 inches
    assert (width, height) == pytest.approx((0.88, 0.44))


def test_a_mask_that_hides_nothing_has_no_hatch():
    assert hatched(viewer.mask(torch.ones(2, 2) > 0, ["a", "b"])) == []


def test_the_hidden_cells_of_a_box_are_hatched():
    box = viewer.box("scores", torch.eye(5), keep=torch.ones(5, 5).tril() > 0)
    assert len(hatched(viewer.steps(box, words=WORDS))) == 1


def test_columns_of_a_map_that_is_not_square_are_counted():
    found = texts(viewer.weights(torch.eye(3)[:2], ["ask", "again"]))
    assert {"ask", "again", "0", "1", "2"} <= set(found)


def test_a_weight_of_nothing_is_a_quiet_zero():
    assert count(viewer.weights(torch.eye(2), ["a", "b"]), "0") == 2


def test_numbers_are_white_on_dark_cells_and_dark_on_light_ones():
    found = texts(viewer.weights(torch.tensor([[0.98, 0.02]]), ["a"], ["b", "c"]))
    assert found["0.98"].get_color() == "white"
    assert found["0.02"].get_color() != "white"


@pytest.mark.parametrize(("column", "side"), [(0, 1), (15, -1)])
def test_the_number_of_a_marked_cell_stands_where_there_is_room(column, side):
    picture = viewer.weights(torch.full((16, 16), 0.25), None, marked=[(4, column)])
    frame = next(
        p for axes in picture.figure.axes for p in axes.patches if to_hex(p.get_edgecolor()).upper() == ORANGE
    )
    assert math.copysign(1, texts(picture)["0.25"].get_position()[0] - frame.get_x()) == side


def test_a_box_with_other_rows_than_words_is_drawn_without_them():
    picture = viewer.steps(viewer.box("x", torch.eye(5)), viewer.box("W", torch.eye(2)), words=WORDS)
    assert [count(picture, word) for word in WORDS] == [1] * 5


def test_columns_that_do_not_fit_the_words_are_drawn_without_them():
    picture = viewer.steps(viewer.box("x", torch.ones(5, 2), columns=True), words=WORDS)
    assert [count(picture, word) for word in WORDS] == [1] * 5


def test_the_past_of_a_fingerprint_is_blue_and_its_future_orange():
    red, _, blue, _ = numpy.moveaxis(colors_of_cells(viewer.fingerprint(torch.ones(3, 3))), -1, 0)
    past = numpy.tri(3, dtype=bool)
    assert (blue > red)[past].all()
    assert (red > blue)[~past].all()


@pytest.mark.parametrize(
    ("leak", "words", "color"),
    [(1.0, "reads the future: 1 of 1 cells", ORANGE), (1e-9, "reads no future", BLUE)],
)
def test_a_fingerprint_tells_a_leak_from_a_rounding(leak, words, color):
    found = texts(viewer.fingerprint(torch.tensor([[1.0, leak], [1.0, 1.0]])))
    assert found[words].get_color() == color


def test_a_mixture_ends_where_the_context_is():
    # 0.5 * (2, 0) + 0.25 * (0, 2) by hand
    picture = viewer.mixture(torch.tensor([[2.0, 0.0], [0.0, 2.0]]), torch.tensor([0.5, 0.25]), ["a", "b"])
    assert "ends at (1.0, 0.5), the context" in picture.alt


def test_the_plane_has_its_second_axis_upwards():
    found = texts(viewer.vectors({"up": (0, 1), "down": (0, -1)}))
    # inches on the card count downwards
    assert found["up"].get_position()[1] < found["down"].get_position()[1]


def test_an_arrow_has_the_colour_that_it_is_given():
    found = texts(viewer.vectors({"a": (1, 0), "b": (0, 1)}, colors={"b": "black"}))
    assert [found[name].get_color() for name in ("a", "b")] == [BLUE, "black"]


def test_a_name_that_finds_no_room_beside_its_arrow_has_a_leader():
    angles = torch.arange(40.0)
    crowd = {f"w{i}": (float(angle.cos()), float(angle.sin())) for i, angle in enumerate(angles)}
    leaders = [
        line
        for axes in viewer.vectors(crowd).figure.axes
        for line in axes.lines
        if line.get_color() == "0.65"
    ]
    assert leaders


def test_curves_that_end_in_one_place_are_named_on_the_way():
    falling = {f"model {i}": torch.sigmoid((10.0 + 6 * i - torch.arange(60.0)) / 3) for i in range(4)}
    found = texts(viewer.curves(falling))
    heights = [found[name].get_position()[1] for name in falling]
    # the slowest highest, spread over more than half of an axis of 3.1 inches
    assert heights == sorted(heights, reverse=True)
    assert heights[0] - heights[-1] > 1.5


def test_curves_that_part_are_named_at_their_ends():
    found = texts(viewer.curves({"up": torch.tensor([0.0, 1.0]), "down": torch.tensor([0.0, -1.0])}))
    assert found["up"].get_position()[1] < 0.7
    assert found["down"].get_position()[1] > 2.5


def test_what_guessing_would_reach_is_said():
    curve = {"loss": torch.tensor([2.3, 0.1])}
    assert count(viewer.curves(curve, guessing=2.3), "guessing") == 1
    assert count(viewer.curves(curve), "guessing") == 0
