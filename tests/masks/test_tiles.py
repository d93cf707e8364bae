"""How tiles are counted, cut and handed out; what they say is in test_tile_answers.py."""

import pytest
import torch

from attnkit import masks


def test_a_causal_mask_has_full_tiles_below_the_diagonal_and_partial_ones_on_it():
    tiles = masks.causal.tiles(6, 6, tile=2)
    assert tiles.table().tolist() == [[1, 0, 0], [2, 1, 0], [2, 2, 1]]
    assert (tiles.num_empty, tiles.num_partial, tiles.num_full, tiles.num_tiles) == (3, 3, 3, 9)
    # 3 full tiles of 4 pairs, 3 partial ones, of 36 pairs
    assert tiles.kept_share == (12 / 36, 24 / 36)


def test_tiles_begin_at_the_first_query_and_the_last_are_cut_short():
    tiles = masks.causal.tiles(5, 7, tile=(2, 3))
    assert tiles.q_edges.tolist() == [2, 4, 6, 7]
    assert tiles.kv_edges.tolist() == [0, 3, 6, 7]
    # queries 2-3, 4-5 and 6 against keys 0-2, 3-5 and 6
    assert tiles.table().tolist() == [[2, 1, 0], [2, 1, 0], [2, 2, 2]]
    assert masks.causal.tiles(5, 7, tile=4, q_start=-3).q_edges.tolist() == [-3, 1, 2]


def test_runs_are_neighbours_of_one_kind():
    tiles = masks.window(2).tiles(6, 6, tile=2)
    # rows 0, 1, 2: full to the right; one tile or none is partial, at the left edge of the band
    assert list(
        zip(*(part.tolist() for part in (tiles.row, tiles.start, tiles.stop, tiles.full)), strict=True)
    ) == [
        (0, 0, 3, True),
        (1, 0, 1, False),
        (1, 1, 3, True),
        (2, 1, 2, False),
        (2, 2, 3, True),
    ]


def test_each_sample_has_its_tiles():
    mask = masks.lengths(torch.tensor([[1, 4], [0, 2]]))
    tiles = mask.tiles(2, 4, tile=2)
    assert tiles.table().tolist() == [[[[1, 0]], [[2, 2]]], [[[0, 0]], [[2, 0]]]]
    assert tiles.sample.tolist() == [0, 1, 3]
    assert tiles.of((1, 1)).table().tolist() == [[2, 0]]
    assert tiles.kept_share == (6 * 2 / 32, 8 * 2 / 32)


def test_no_queries_no_keys_and_no_samples_have_no_tiles():
    for sizes in ((0, 4), (4, 0), (0, 0)):
        tiles = masks.causal.tiles(*sizes)
        assert (tiles.num_tiles, tiles.num_full, tiles.kept_share) == (0, 0, (0.0, 0.0))
        assert tiles.table().numel() == 0
    assert masks.lengths([]).tiles(4, 4).table().shape == (0, 1, 1)


def test_a_million_tokens_keep_what_can_be_counted_by_hand():
    # 7,813 rows of tiles of 128. Row r keeps: the diagonal tile, 31 full ones before it, the one that the window
    # of 32 tiles cuts, and the first; rows that reach the first tile with their window have fewer.
    tiles = (masks.causal & (masks.window(4096) | masks.first(64))).tiles(1_000_000, 1_000_000)
    rows = 7813
    assert tiles.num_full == sum(min(row, 31) for row in range(rows))
    assert tiles.num_partial == rows + (rows - 32) + (rows - 33)


def test_documents_that_come_back_are_found_where_they_are():
    # three documents that take turns: tiles of 2 positions, so tile i is document i % 3
    ids = torch.arange(3).repeat_interleave(2).repeat(40)
    tiles = (masks.causal & masks.documents(ids)).tiles(240, 240, tile=2)
    expected = [[(k < q) * 2 + (k == q) if (q - k) % 3 == 0 else 0 for k in range(120)] for q in range(120)]
    assert tiles.table().tolist() == expected


def test_a_document_that_comes_back_just_outside_of_the_window_is_not_read():
    # queries 4 and 5 against keys 0 and 1: only document 0 is on both sides, 5 apart
    def state(window):
        mask = masks.documents([0, 8, 7, 7, 9, 0]) & masks.window(window)
        return mask.tiles(6, 6, tile=2).table()[2, 0].item()

    assert (state(5), state(6)) == (0, 1)


def test_two_packings_must_agree_on_one_pair():
    # queries 4 and 5 against keys 0 and 1: the one packing has 4 and 0 together, the other 5 and 1
    one, two = masks.documents([0, 1, 7, 7, 0, 2]), masks.documents([0, 1, 7, 7, 3, 1])
    for mask in (one & two, (masks.causal & one) & two, one & (two & masks.window(6))):
        assert mask.tiles(6, 6, tile=2).table()[2, 0] == 0
    assert one.tiles(6, 6, tile=2).table()[2, 0] == two.tiles(6, 6, tile=2).table()[2, 0] == 1


def test_areas_are_looked_up_in_parts_where_they_are_many(monkeypatch):
    ids = torch.tensor([0, 1, 2, 1, 0, 2, 2, 1, 1, 0, 3, 0, 3])
    mask = masks.documents(ids) & masks.window(5)
    expected = mask.tiles(13, 13, tile=2).table()
    monkeypatch.setattr("attnkit.masks.runs._LOOKED_UP_AT_ONCE", 1)
    again = masks.documents(ids) & masks.window(5)
    assert torch.equal(again.tiles(13, 13, tile=2).table(), expected)


def test_documents_for_all_samples_are_looked_up_for_each_of_them():
    # the lengths give areas a batch that the ids do not have; document 0 comes back at position 4
    mask = masks.lengths([1, 5]) & masks.documents([0, 0, 1, 1, 0])
    area = masks.Area(*(torch.tensor([bound]) for bound in (4, 5, 0, 2)))
    assert mask.over(area).some.tolist() == [[True], [True]]
    assert mask.over(area).every.tolist() == [[False], [True]]
    assert (mask & masks.window(4)).over(area).some.tolist() == [[False], [True]]
    each = masks.documents([[0, 0, 1, 1, 0], [0, 0, 1, 1, 2]])
    assert each.over(area).some.tolist() == [[True], [False]]


@pytest.mark.messages
def test_tiles_print_how_many_there_are_of_each_kind():
    assert repr(masks.causal.tiles(6, 6, tile=2)) == "Tiles(3 x 3: 3 full, 3 partial, 3 empty)"
    told = repr(masks.lengths([1, 2]).tiles(2, 2, tile=1))
    assert told == "Tiles(2 x 2: 6 full, 0 partial, 2 empty, batch=(2,))"


class _Table(masks.Mask):
    """A reader's own mask, whose `sample` trusts that it is asked only where there are samples."""

    def __init__(self, table: torch.Tensor) -> None:
        self.table = table

    @property
    def batch(self) -> tuple[int, ...]:
        return tuple(self.table.shape[:-2])

    def sample(self, index: tuple[int, ...]) -> masks.Mask:
        return _Table(self.table[index])

    def keep(self, q_pos: torch.Tensor, kv_pos: torch.Tensor) -> torch.Tensor:
        return self.table[..., q_pos, kv_pos]


def test_a_part_that_is_the_same_for_every_sample_is_not_asked_for_one():
    table = torch.rand(6, 6, generator=torch.Generator().manual_seed(1)) < 0.5
    mask = ~(_Table(table) & masks.lengths([6, 3]))
    for index in range(2):
        assert torch.equal(mask.sample((index,)).dense(6, 6), mask.dense(6, 6)[index])
