"""Drawings of masks: what is drawn is so, at any length, in text and as a picture."""

import re
import xml.dom.minidom

import pytest
import torch

from attnkit import masks
from attnkit.masks.grid import cells, measured


def drawn(mask, *sizes, **options):
    return str(mask.show(*sizes, **options)).splitlines()


def test_few_pairs_have_a_mark_each():
    assert drawn(masks.causal & masks.window(2), 3, 5) == [
        "(causal & window(2)): 3 queries down, 5 keys across",
        "keeps 6 of 15 pairs (40 %)",
        "",
        "   0       4",
        "2  · ■ ■ · ·",
        "3  · · ■ ■ ·",
        "4  · · · ■ ■",
    ]


def test_one_query_is_no_queries():
    assert drawn(masks.causal, 1, 3)[:2] == [
        "causal: 1 query down, 3 keys across",
        "keeps 3 of 3 pairs (100 %)",
    ]
    assert "causal: 3 queries, 1 key" in masks.causal.show(3, 1)._repr_html_()


def test_rows_are_named_by_their_position():
    assert [line[:2] for line in drawn(masks.causal, 3, 3, q_start=-1)[4:]] == ["-1", " 0", " 1"]


def test_many_pairs_share_cells():
    # 128 positions: cells of 4 queries by 2 keys
    lines = drawn(masks.causal, 128, 128)
    assert lines[1] == "keeps 8,256 of 16,384 pairs (50 %)"  # 128 * 129 / 2
    assert lines[3] == "     0               32              64              96"
    # queries 0-3: keys 0-1 have 1, 2, 2, 2 of 2 readers, 7 of 8 pairs; keys 2-3 have 0, 0, 1, 2, 3 of 8
    assert lines[4] == "  0  ▓▒" + "·" * 62
    assert lines[8] == " 16  " + "█" * 8 + "▓▒" + "·" * 54
    assert lines[-1] == "a cell is 4 queries by 2 keys; kept of it: · none, ░▒▓ some, █ all"
    assert len(lines) == 4 + 32 + 2


def test_a_million_tokens_are_drawn_in_32_rows():
    lines = drawn(masks.causal & (masks.window(4096) | masks.first(64)), 1_000_000, 1_000_000)
    assert len(lines) == 4 + 31 + 2
    # 4,096 * (1,000,000 - 2,048 + 0.5) in the band and 64 * (1,000,000 - 4,096 - 32 + 0.5) before it: 0.4152 %
    assert re.fullmatch(r"keeps about 0\.4[12] % of the pairs \(from 0\.\d\d % to 0\.\d\d %\)", lines[1])
    least, most = map(float, re.findall(r"from (\S+) % to (\S+) %", lines[1])[0])
    assert least <= 0.4152 <= most
    assert [line[9] for line in lines[4:35]] == ["░"] * 31  # the first 64 keys, few as they are


@pytest.mark.parametrize(
    "mask",
    [
        masks.causal & (masks.window(400) | masks.first(4)),
        masks.documents(torch.arange(1300) // 300 % 3),
        masks.strided(5),
        masks.where(lambda q, k: (q - k) % 300 < 40),
    ],
    ids=repr,
)
def test_what_a_grid_says_without_writing_the_mask_out_is_so(mask, monkeypatch):
    q_edges, kv_edges = 200 + cells(900, 16), cells(1100, 16)
    true = measured(mask, q_edges, kv_edges)
    monkeypatch.setattr("attnkit.masks.grid._WRITTEN_OUT", 0)
    monkeypatch.setattr("attnkit.masks.grid._LOOKED_INTO", 1 << 11)
    told = measured(mask, q_edges, kv_edges)
    assert not (told.empty & ~true.empty).any()
    assert not (told.full & ~true.full).any()
    assert told.kept[0] <= true.kept[0] <= told.kept[1]
    # 16 pairs of each of 64 tiles: a standard error of at most 0.016, and 5 of them; less where tiles are known
    assert (told.share - true.share).abs().max() <= 0.08
    assert torch.equal(true.empty, true.share == 0)
    assert torch.equal(true.full, true.share == 1)


def test_each_sample_is_drawn_and_one_can_be_chosen():
    mask = masks.lengths([1, 3])
    both = drawn(mask, 1, 3)
    assert both[1:5] == ["sample 0: keeps 1 of 3 pairs (33 %)", "", "   0", "2  ■ · ·"]
    assert both[6:10] == ["sample 1: keeps 3 of 3 pairs (100 %)", "", "   0", "2  ■ ■ ■"]
    assert drawn(mask, 1, 3, sample=1)[1:] == both[6:10]
    assert drawn(mask, 1, 3, sample=(1,)) == drawn(mask, 1, 3, sample=1)


def test_of_many_samples_four_are_drawn():
    lines = drawn(masks.lengths([1] * 9), 1, 3)
    assert [line[:8] for line in lines if line.startswith("sample")] == [f"sample {n}" for n in range(4)]
    assert lines[-1] == "5 more of the batch (9,): choose with sample="


def test_nothing_to_draw_is_said():
    assert drawn(masks.causal, 0, 3)[1] == "keeps nothing: there are no pairs"
    assert drawn(masks.lengths([]), 2, 3) == ["lengths([]): 2 queries down, 3 keys across"]


@pytest.mark.parametrize(
    ("share", "told"), [(1999, "almost 100 %"), (1, "0.050 %"), (0, "0 %"), (2000, "100 %")]
)
def test_a_share_is_never_rounded_to_nothing_or_all(share, told):
    assert f"({told})" in drawn(masks.lengths([share]), 1, 2000)[1]


@pytest.mark.parametrize(
    "mask",
    [masks.causal & masks.window(3), masks.lengths([1, 5]), masks.where(lambda q, k: q > k), masks.full],
)
@pytest.mark.parametrize("sizes", [(3, 5), (1, 700), (2000, 2000), (0, 3)])
def test_a_notebook_is_shown_well_formed_svg(mask, sizes):
    page = mask.show(*sizes)._repr_html_()
    assert len(page) < 100_000
    root = xml.dom.minidom.parseString(page).documentElement
    drawings = [svg for svg in root.getElementsByTagName("svg") if svg.getAttribute("role")]
    assert len(drawings) == max(len(mask.batch and (0, 1)), 1)


def test_a_picture_has_a_path_of_the_kept_cells():
    # queries 0 and 1, key 0 for both and key 1 for the second
    page = masks.causal.show(2, 2)._repr_html_()
    assert '<path fill="#3b8fd0" fill-opacity="1.0" d="M0 0h1v1h-1zM0 1h2v1h-2z"/>' in page


def test_a_picture_escapes_what_a_mask_is_called():
    assert "where(&lt;lambda&gt;)" in masks.where(lambda q, k: q > k).show(2, 2)._repr_html_()
