"""What the tiled backend runs: which tiles, in how many batches."""

import pytest
import torch

from attnkit import Rule, masks
from attnkit.backends import tiled
from attnkit.backends.tiled.leftover import judged
from attnkit.backends.tiled.plan import Question, plan_of
from attnkit.backends.tiled.runs import blocks_of
from attnkit.backends.tiled.views import add_key_tiles, key_tiles, query_tiles
from attnkit.masks import Area
from tests.helpers import inputs

MASKS = {
    "full": masks.full,
    "causal": masks.causal,
    "window": masks.causal & masks.window(100),
    "window or first": masks.causal & (masks.window(70) | masks.first(4)),
    "documents": masks.causal & masks.documents(torch.arange(3000) // 170),
    "strided": masks.causal & masks.dilated(3, 50),
    "nothing": masks.causal & ~masks.causal,
    # rows 100 to 199 read nothing; those above and below read the same keys
    "apart": masks.first(100) & masks.documents(torch.arange(3000) // 100 % 2),
}
PLACES = {
    "square": (1000, 1000, 0),
    "chunk": (300, 1000, 700),
    "late": (300, 500, 600),
    "early": (400, 500, -100),
}


def covered(batches, q_len, kv_len):
    """How many tiles each pair of indices is in, and how many hide it."""
    count = torch.zeros(q_len, kv_len, dtype=torch.int64)
    for batch in batches:
        for i in range(batch.count):
            q_from, kv_from = batch.q_from + i * batch.q_step, batch.kv_from + i * batch.kv_step
            count[q_from : q_from + batch.rows, kv_from : kv_from + batch.width] += 1
    return count


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("mask", MASKS)
def test_each_kept_pair_is_in_one_tile(mask, place, backward):
    q_len, kv_len, q_start = PLACES[place]
    plan = plan_of(MASKS[mask], Question(q_len, kv_len, q_start, lanes=8, dim=64, backward=backward))
    count = covered(plan.batches, q_len, kv_len)
    keep = MASKS[mask].dense(q_len, kv_len, q_start=q_start)
    assert count.max() <= 1
    assert bool((count[keep] == 1).all())


@pytest.mark.parametrize("mask", ["window", "window or first", "documents"])
def test_few_pairs_are_computed_in_vain(mask):
    keep = MASKS[mask].dense(2048, 2048)
    plan = plan_of(MASKS[mask], Question(2048, 2048, 0, lanes=8, dim=64))
    work = sum(b.count * b.rows * b.width * (0.5 if b.square else 1) for b in plan.batches)
    # a tile of 32 rows holds 31 keys more than the window of each row, and some to be a multiple of 16: 112 for 70
    assert work <= 1.7 * int(keep.sum())


def test_a_window_is_one_batch_besides_its_beginning():
    plan = plan_of(masks.causal & masks.window(256), Question(8192, 8192, 0, lanes=8, dim=64))
    (whole,) = [batch for batch in plan.batches if batch.count > 1]
    assert whole.count * whole.rows >= 8192 - 256 - whole.rows
    assert whole.width == 256 + whole.rows
    assert whole.mask is not None
    assert whole.mask.relative
    assert whole.moves_together


def test_documents_of_one_length_are_one_batch_of_causal_squares():
    ids = torch.arange(8192) // 1024
    (batch,) = plan_of(masks.causal & masks.documents(ids), Question(8192, 8192, 0, lanes=8, dim=64)).batches
    assert (batch.count, batch.rows, batch.width, batch.square) == (8, 1024, 1024, True)


def test_a_chunk_after_a_cache_is_what_is_before_it_and_a_causal_square():
    plan = plan_of(masks.causal, Question(500, 4500, 4000, lanes=8, dim=64))
    assert [(b.kv_from, b.width, b.square, b.mask) for b in plan.batches] == [
        (0, 4000, False, None),
        (4000, 500, True, masks.causal),
    ]


def test_first_keys_are_one_tall_tile():
    # of 8,192 rows, those that have left the first keys behind read them together
    plan = plan_of(
        masks.causal & (masks.window(256) | masks.first(4)), Question(8192, 8192, 0, lanes=8, dim=64)
    )
    (tall,) = [batch for batch in plan.batches if batch.width == 4]
    assert tall.count == 1
    assert tall.mask is None
    assert tall.rows > 7500


def test_a_plan_is_found_once(monkeypatch):
    asked = []
    whole = masks.And.some
    monkeypatch.setattr(masks.And, "some", lambda self, area: asked.append(area) or whole(self, area))
    requests = [
        Rule(mask=masks.causal & (masks.window(77) | masks.first(3)))._request(
            *inputs(q_len=300, kv_len=300), None
        )
        for _ in range(2)
    ]
    tiled.run(requests[0])
    first = len(asked)
    tiled.run(requests[1])
    assert len(asked) == first > 0


def test_one_token_more_has_the_plan_of_the_token_before():
    mask = masks.causal & masks.window(77)
    one, other = (plan_of(mask, Question(1, length, length - 1, lanes=8, dim=64)) for length in (900, 901))
    assert one.shifted(1) == other
    assert [(batch.kv_from, batch.width) for batch in other.batches] == [(901 - 77, 77)]


@pytest.mark.parametrize("mask", MASKS)
def test_blocks_hold_all_the_keys_of_their_queries(mask):
    keep = MASKS[mask].dense(300, 1000)
    found = torch.zeros_like(keep)
    for block in blocks_of(MASKS[mask], 700, (300, 1000), 128):
        for first, last, full in block.spans:
            assert not full or bool(keep[block.first : block.last, first:last].all())
            found[block.first : block.last, first:last] = True
        assert block.width == sum(last - first for first, last in block.stretches)
    assert bool((found | ~keep).all())


def test_what_is_left_of_a_mask_keeps_the_same():
    # the first tile is behind the first keys and inside a document, the second is before the query too
    mask = masks.causal & (masks.window(10) | masks.first(4)) & masks.documents(torch.arange(100) // 50)
    area = Area(*(torch.tensor(edges) for edges in ((20, 25), (30, 27), (12, 20), (30, 25))))
    found = judged(mask, area)
    left = found.left([0])
    assert repr(left) == "(causal & window(10))"
    q_pos, kv_pos = torch.arange(20, 30)[:, None], torch.arange(12, 30)
    assert torch.equal(left.keep(q_pos, kv_pos), mask.keep(q_pos, kv_pos))
    assert found.left([1]) is None
    assert repr(found.left([0, 1])) == "(causal & window(10))"


@pytest.mark.parametrize("step", [0, 3, 7, 9])
def test_adding_tiles_is_the_gradient_of_viewing_them(step):
    whole = torch.randn(2, 60, 3, dtype=torch.float64, requires_grad=True)
    plan = plan_of(masks.full, Question(10, 60, 0, lanes=2, dim=3))
    batch = type(plan.batches[0])(0, 2, 2, 4, step, 7, 5, None, square=False, rank=0)
    seen = key_tiles(whole, batch, 1, 4)
    probe = torch.randn_like(seen)
    (expected,) = torch.autograd.grad(seen, whole, probe)
    found = torch.zeros(2, 60, 3, dtype=torch.float64)
    add_key_tiles(found, probe, batch, 1)
    torch.testing.assert_close(found, expected)
    assert query_tiles(whole, batch, 1, 4).shape == (4, 2, 2, 3)
