"""The mechanisms that say where to look, each against the same thing done another way, in float64."""

import math

import pytest
import torch

from attnkit import masks
from attnkit.catalog import find
from tests.helpers import inputs


def plain(query, key, value, keep=None):
    """Attention with a table of what is kept; nothing of the package."""
    scores = query @ key.mT / math.sqrt(query.shape[-1])
    if keep is not None:
        scores = scores.masked_fill(~keep, -math.inf)
    return scores.softmax(-1) @ value


def by_sets(query, key, value, reads):
    """Each query by itself, with the keys of a list of sets."""
    rows = []
    for q, keys in enumerate(reads):
        own = sorted(keys)
        rows.append(plain(query[..., q : q + 1, :], key[..., own, :], value[..., own, :]))
    return torch.cat(rows, -2)


def tensors(length):
    return inputs(q_len=length, kv_len=length, dtype=torch.float64)


def called(name, given, **options):
    return find(name)(*given, **options)


def lower(length):
    return torch.ones(length, length, dtype=torch.bool).tril()


def close(one, other):
    torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_full_reads_a_memory_of_another_length():
    query, key, value = inputs(q_len=5, kv_len=7, dtype=torch.float64)
    close(find("full")(query, key, value), plain(query, key, value))


def test_causal_is_a_lower_triangle_that_ends_at_the_last_key():
    query, key, value = inputs(q_len=5, kv_len=7, dtype=torch.float64)
    close(find("causal")(query, key, value), plain(query, key, value, lower(7)[-5:]))


@pytest.mark.parametrize(("stride", "length"), [(3, 10), (4, 16), (1, 5), (9, 7)])
def test_strided_reads_both_sets_of_the_sparse_transformer(stride, length):
    # section 4.3: the first set is {t, ..., i} with t = max(0, i - l), the second {j <= i: (i - j) mod l = 0}
    first = [set(range(max(0, i - stride), i + 1)) for i in range(length)]
    second = [{j for j in range(i + 1) if (i - j) % stride == 0} for i in range(length)]
    given = tensors(length)
    expected = by_sets(*given, [a | b for a, b in zip(first, second, strict=True)])
    close(called("strided", given, stride=stride), expected)


def test_the_mode_strided_of_the_published_code_is_the_second_set_alone():
    # what the file tells readers to write for it
    given = tensors(10)
    second = [{j for j in range(i + 1) if (i - j) % 3 == 0} for i in range(10)]
    close(called("full", given, mask=masks.causal & masks.strided(3)), by_sets(*given, second))


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("step", "count"), [(2, 3), (3, 2), (4, 5)])
def test_dilated_is_a_sliding_window_in_each_of_step_groups(step, count, causal):
    given = tensors(11)
    expected = torch.empty_like(given[2])
    for group in range(step):
        own = [tensor[..., group::step, :] for tensor in given]
        length = own[0].shape[-2]
        apart = torch.arange(length)[:, None] - torch.arange(length)
        near = (apart.abs() < count) & ((apart >= 0) | torch.tensor(not causal))
        expected[..., group::step, :] = plain(*own, near)
    close(called("dilated", given, step=step, count=count, causal=causal), expected)


@pytest.mark.parametrize("causal", [True, False])
def test_sliding_window_counts_both_sides_as_longformer_does(causal):
    # w = 4 of the paper is 2 on each side, which is window = 4 // 2 + 1
    given = tensors(9)
    reads = [set(range(max(0, i - 2), (i if causal else min(8, i + 2)) + 1)) for i in range(9)]
    close(called("sliding_window", given, window=4 // 2 + 1, causal=causal), by_sets(*given, reads))


@pytest.mark.parametrize("causal", [True, False])
def test_block_local_is_attention_of_each_block_by_itself(causal):
    given = tensors(11)
    pieces = zip(*(tensor.split(4, -2) for tensor in given), strict=True)
    expected = [plain(*piece, lower(piece[0].shape[-2]) if causal else None) for piece in pieces]
    close(called("block_local", given, size=4, causal=causal), torch.cat(expected, -2))


@pytest.mark.parametrize("causal", [True, False])
def test_packed_documents_are_attention_of_each_document_by_itself(causal):
    # document 2 comes back at the end
    ids = torch.tensor([2, 2, 2, 0, 0, 1, 1, 1, 1, 2, 2])
    given = tensors(11)
    expected = torch.empty_like(given[2])
    for document in range(3):
        own = [tensor[..., ids == document, :] for tensor in given]
        mask = lower(own[0].shape[-2]) if causal else None
        expected[..., ids == document, :] = plain(*own, mask)
    close(called("documents", given, ids=ids, causal=causal), expected)


def test_each_sample_may_have_its_own_documents():
    given = tensors(5)
    ids = [[0, 0, 1, 1, 1], [0, 1, 1, 2, 2]]
    found = called("documents", given, ids=ids)
    for sample in range(2):
        alone = [tensor[sample : sample + 1] for tensor in given]
        close(found[sample : sample + 1], called("documents", alone, ids=ids[sample]))


@pytest.mark.parametrize("size", [1, 4, 9])
def test_a_prefix_is_read_whole_and_what_follows_token_by_token(size):
    query, key, value = tensors(9)
    first = plain(*(tensor[..., :size, :] for tensor in (query, key, value)))
    rest = [
        plain(query[..., q : q + 1, :], key[..., : q + 1, :], value[..., : q + 1, :]) for q in range(size, 9)
    ]
    close(called("prefix", (query, key, value), size=size), torch.cat([first, *rest], -2))


def test_each_sample_may_have_its_own_prefix():
    given = tensors(7)
    found = called("prefix", given, size=[0, 4])
    close(found[:1], called("causal", [tensor[:1] for tensor in given]))
    close(found[1:], called("prefix", [tensor[1:] for tensor in given], size=4))


@pytest.mark.parametrize(("segment", "memory_tokens"), [(4, 4), (4, 2), (3, 7), (4, 0)])
def test_memory_is_what_a_model_sees_that_keeps_the_last_tokens_of_earlier_segments(segment, memory_tokens):
    # section 3.2: keys and values are [memory, segment], queries the segment; then the memory is cut to its length
    query, key, value = tensors(14)
    kept_key, kept_value = key[..., :0, :], value[..., :0, :]
    contexts = []
    for start in range(0, 14, segment):
        own = slice(start, start + segment)
        keys = torch.cat([kept_key, key[..., own, :]], -2)
        values = torch.cat([kept_value, value[..., own, :]], -2)
        length, kept = query[..., own, :].shape[-2], kept_key.shape[-2]
        keep = torch.ones(length, kept + length, dtype=torch.bool).tril(kept)
        contexts.append(plain(query[..., own, :], keys, values, keep))
        cut = max(keys.shape[-2] - memory_tokens, 0)
        kept_key, kept_value = keys[..., cut:, :], values[..., cut:, :]
    expected = torch.cat(contexts, -2)
    close(called("memory", (query, key, value), segment=segment, memory_tokens=memory_tokens), expected)


@pytest.mark.parametrize("num_global", [0, 1, 3])
def test_global_local_is_what_longformer_puts_together(num_global):
    # the first tokens over all keys; the others over the global keys and then those keys of the window that are not
    given = tensors(12)
    reads = [set(range(12))] * num_global
    for q in range(num_global, 12):
        window = [k for k in range(q - 2, q + 3) if 0 <= k < 12]
        reads.append({*range(num_global), *window})
    close(called("global_local", given, window=3, num_global=num_global), by_sets(*given, reads))


def test_a_causal_global_local_is_a_window_and_the_first_tokens():
    given = tensors(10)
    reads = [{k for k in range(q + 1) if k < 2 or q - k < 3} for q in range(10)]
    close(called("global_local", given, window=3, num_global=2, causal=True), by_sets(*given, reads))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("causal", [True, False])
def test_axial_is_attention_with_the_other_axes_as_a_batch(axis, causal):
    grid = (2, 3, 4)
    given = tensors(24)
    lines = [tensor.unflatten(-2, grid).movedim(2 + axis, -2) for tensor in given]
    mask = lower(grid[axis]) if causal else None
    expected = plain(*lines, mask).movedim(-2, 2 + axis).flatten(2, 4)
    close(called("axial", given, grid=grid, axis=axis, causal=causal), expected)


def test_tokens_after_the_last_cell_are_the_next_grid():
    given = tensors(10)
    parts = [[tensor[..., own, :] for tensor in given] for own in (slice(0, 6), slice(6, 10))]
    expected = [called("axial", part, grid=(2, 3), axis=0) for part in parts]
    close(called("axial", given, grid=(2, 3), axis=0), torch.cat(expected, -2))


@pytest.mark.parametrize("window", [(3, 3), (2, 5), (4, 4), (1, 3), (4, 5)])
def test_neighborhood_reads_a_window_that_the_border_shifts(window):
    # NATTEN: a centre that is held so far from the borders that the window fits, and what is left and right of it
    height, width = 4, 5
    reads = []
    for y in range(height):
        for x in range(width):
            rows, columns = (
                range(c - size // 2, c + (size + 1) // 2)
                for size, c in (
                    (size, min(max(at, size // 2), count - (size + 1) // 2))
                    for size, at, count in zip(window, (y, x), (height, width), strict=True)
                )
            )
            reads.append({row * width + column for row in rows for column in columns})
    assert {len(keys) for keys in reads} == {math.prod(window)}
    given = tensors(20)
    close(called("neighborhood", given, grid=(height, width), window=window), by_sets(*given, reads))


@pytest.mark.parametrize("seed", range(3))
def test_bigbird_reads_its_neighbours_the_global_blocks_and_those_that_were_drawn(seed):
    size, length = 2, 15
    drawn = masks.random_blocks(size, 2, seed=seed, length=length).dense(length, length)
    reads = []
    for q in range(length):
        near = {k for k in range(length) if abs(k // size - q // size) <= 1}
        everywhere = set(range(length)) if q < size else set(range(size))
        random = set(drawn[q].nonzero().flatten().tolist())
        assert len({k // size for k in random}) == 2
        reads.append(near | everywhere | random)
    given = tensors(length)
    found = called("bigbird", given, size=size, num_random=2, num_global=1, seed=seed, length=length)
    close(found, by_sets(*given, reads))


def test_a_causal_bigbird_does_not_change_as_a_text_grows():
    given = tensors(13)
    short = [tensor[..., :9, :] for tensor in given]
    options = {"size": 2, "num_random": 2, "num_global": 1, "causal": True}
    close(called("bigbird", given, **options)[..., :9, :], called("bigbird", short, **options))


def test_the_blocks_of_bigbird_are_drawn_from_those_after_the_query_too():
    # 32 blocks of which a query reads few: without those drawn, none of the last half would be read by the first half
    mask = find("bigbird").rule(size=2, num_random=2, num_global=1, length=64).mask
    ahead = mask.dense(64, 64)[2:32, 34:]
    assert ahead.any()
    none = find("bigbird").rule(size=2, num_random=0, num_global=1).mask
    assert not none.dense(64, 64)[2:32, 34:].any()
