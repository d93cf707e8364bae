"""The mechanisms that say where to look: cases by hand, what they refuse, and what every backend makes of them."""

import pytest
import torch

from attnkit.catalog import find
from attnkit.errors import AttentionError, DtypeError, OptionError, ShapeError
from attnkit.laws import LawBrokenError, no_future_leak, when
from tests.helpers import inputs

NAMES = [
    *("full", "causal", "sliding_window", "dilated", "block_local", "strided", "prefix", "documents"),
    *("global_local", "bigbird", "axial", "neighborhood", "memory"),
]

# a query of zeros gives every key that is kept one score, so the context is the mean of what is read: powers of two
# have another sum for each set of keys, and the number of keys is their count
VALUE = torch.tensor([1.0, 2, 4, 8, 16, 32, 64], dtype=torch.float64)[:, None]

BY_HAND = [
    ("full", {}, 3, [0, 1, 2, 3, 4, 5, 6]),
    ("causal", {}, 3, [0, 1, 2, 3]),
    ("sliding_window", {"window": 3}, 4, [2, 3, 4]),
    ("sliding_window", {"window": 3, "causal": False}, 5, [3, 4, 5, 6]),
    ("dilated", {"step": 2, "count": 3}, 5, [1, 3, 5]),
    ("dilated", {"step": 2, "count": 2, "causal": False}, 3, [1, 3, 5]),
    ("block_local", {"size": 3}, 4, [3, 4]),
    ("block_local", {"size": 3, "causal": False}, 4, [3, 4, 5]),
    ("block_local", {"size": 3, "causal": False}, 6, [6]),
    ("strided", {"stride": 3}, 6, [0, 3, 4, 5, 6]),
    ("prefix", {"size": 3}, 0, [0, 1, 2]),
    ("prefix", {"size": 3}, 4, [0, 1, 2, 3, 4]),
    ("documents", {"ids": [0, 0, 1, 1, 1, 0, 0]}, 5, [0, 1, 5]),
    ("documents", {"ids": [0, 0, 1, 1, 1, 0, 0], "causal": False}, 3, [2, 3, 4]),
    ("global_local", {"window": 2}, 0, [0, 1, 2, 3, 4, 5, 6]),
    ("global_local", {"window": 2}, 4, [0, 3, 4, 5]),
    ("global_local", {"window": 2, "causal": True}, 4, [0, 3, 4]),
    # blocks 0-1, 2-3, 4-5, 6: the last has one neighbour, and reads the first block as all do
    ("bigbird", {"size": 2, "num_random": 0, "num_global": 1}, 6, [0, 1, 4, 5, 6]),
    ("bigbird", {"size": 2, "num_random": 0, "num_global": 0}, 6, [4, 5, 6]),
    ("bigbird", {"size": 2, "num_random": 0, "num_global": 0, "causal": True}, 4, [2, 3, 4]),
    # a grid of 2 x 4: position 5 is row 1, column 1
    ("axial", {"grid": (2, 4), "axis": 1}, 5, [4, 5, 6]),
    ("axial", {"grid": (2, 4), "axis": 0}, 5, [1, 5]),
    ("axial", {"grid": (2, 4), "axis": 1, "causal": True}, 5, [4, 5]),
    # the window of column 3 is shifted to columns 1 to 3
    ("neighborhood", {"grid": (2, 4), "window": (1, 3)}, 3, [1, 2, 3]),
    ("neighborhood", {"grid": (7,), "window": (3,)}, 0, [0, 1, 2]),
    # segments 0-2, 3-5 and 6; the second begins at 3 and keeps 2 tokens before it
    ("memory", {"segment": 3, "memory_tokens": 2}, 4, [1, 2, 3, 4]),
    ("memory", {"segment": 3, "memory_tokens": 0}, 4, [3, 4]),
]


@pytest.mark.parametrize(("name", "options", "query", "reads"), BY_HAND)
def test_a_query_of_zeros_gets_the_mean_of_what_it_reads(name, options, query, reads):
    key, _, _ = inputs(q_len=7, dtype=torch.float64, heads=1, batch=())
    context = find(name)(torch.zeros(1, 7, 4, dtype=torch.float64), key, VALUE[None], **options)
    expected = sum(2**k for k in reads) / len(reads)
    torch.testing.assert_close(context[0, query, 0].item(), expected)


def test_every_mechanism_of_the_family_is_worked_by_hand():
    assert {name for name, *_ in BY_HAND} == set(NAMES)
    assert {find(name).family for name in NAMES} == {"where"}


def long(options):
    """The options of an example, for 70 tokens."""
    longer = {"ids": [place // 9 % 3 for place in range(70)], "length": 70, "grid": (7, 10), "window": (4, 5)}
    tuples = isinstance(options.get("window"), tuple)
    chosen = {"ids", "length", "grid"} | ({"window"} if tuples else set())
    found = {name: longer[name] if name in chosen else value for name, value in options.items()}
    return found | ({"axis": min(found["axis"], 1)} if "axis" in found else {})


CASES = [
    pytest.param(name, options, id=f"{name}-{number}")
    for name in NAMES
    for number, options in enumerate(find(name).examples)
]


@pytest.mark.parametrize("backend", ["sdpa", "tiled"])
@pytest.mark.parametrize(("name", "options"), CASES)
def test_every_backend_on_a_cpu_makes_the_same_of_it(name, options, backend):
    query, key, value = inputs(q_len=70, kv_len=70, dtype=torch.float64, heads=2, grad=True)
    rule = find(name).rule(**long(options))
    probe = torch.randn(value.shape, generator=torch.Generator().manual_seed(1), dtype=value.dtype)
    found = []
    for chosen in ("eager", backend):
        context = rule(query, key, value, backend=chosen)
        found.append([context, *torch.autograd.grad((context * probe).sum(), (query, key, value))])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), CASES)
def test_tiles_of_a_mechanism_are_those_of_its_mask_written_out(name, options):
    mask = find(name).rule(**long(options)).mask
    dense = mask.dense(70, 70)
    told = mask.tiles(70, 70, tile=7).table()
    true = dense.unflatten(-1, (10, 7)).unflatten(-3, (10, 7))
    assert torch.equal(told, (true.any(-1).any(-2).int() + true.all(-1).all(-2).int()).to(told.dtype))


def test_a_law_is_asked_with_the_options_that_it_is_bound_to():
    # the same example, that reads ahead: the law holds where it is made causal, and is broken as it stands
    ahead = {"window": 3, "causal": False}
    when(no_future_leak, causal=True)(find("sliding_window"), **ahead)
    with pytest.raises(LawBrokenError, match="moves by"):
        when(no_future_leak, window=2)(find("sliding_window"), **ahead)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("name", "options", "error", "text"),
    [
        ("sliding_window", {"window": 0}, OptionError, r"size is a whole number from 1 upwards; got 0"),
        ("sliding_window", {"window": 0, "causal": False}, OptionError, r"masks\.band: size is a whole"),
        ("sliding_window", {}, OptionError, r"window is missing, how many positions(?s:.*)window=3"),
        ("dilated", {"step": 0, "count": 2}, OptionError, r"step is a whole number from 1 upwards; got 0"),
        ("dilated", {"step": 2, "count": 0}, OptionError, r"count is a whole number from 1 upwards; got 0"),
        ("block_local", {"size": 2.0}, OptionError, r"size is a whole number from 1 upwards; got 2\.0"),
        ("strided", {"stride": -1}, OptionError, r"stride is a whole number from 1 upwards; got -1"),
        ("prefix", {"size": 0}, OptionError, r"size is a whole number from 1 upwards; got 0"),
        ("documents", {"ids": [0.5] * 7}, DtypeError, r"ids are whole numbers(?s:.*)documents\(\[0, 0, 0, 1"),
        ("documents", {"ids": [0] * 4}, ShapeError, r"told of 4 positions; key (?s:.*) has 7"),
        ("global_local", {"window": 0}, OptionError, r"size is a whole number from 1 upwards; got 0"),
        ("global_local", {"window": 2, "num_global": -1}, OptionError, r"masks\.first: size is a whole numb"),
        ("bigbird", {"size": 2}, OptionError, r"length is not given\n  fix: length=4096(?s:.*)causal=True"),
        (
            "bigbird",
            {"size": 0, "causal": True},
            OptionError,
            r"size is a whole number from 1 upwards; got 0",
        ),
        ("bigbird", {"size": 2, "num_random": -1, "causal": True}, OptionError, r"count is a whole number"),
        ("bigbird", {"size": 2, "seed": -1, "causal": True}, OptionError, r"seed is a whole number from 0"),
        (
            "axial",
            {"grid": (2, 4), "axis": 2},
            OptionError,
            r"one of the 2 axes(?s:.*)got 2\n  fix: axis=1 is",
        ),
        ("axial", {"grid": (2, 4), "axis": -1}, OptionError, r"counted from 0; got -1"),
        ("axial", {"grid": 8, "axis": 0}, OptionError, r"masks\.along: grid has one whole number"),
        ("neighborhood", {"grid": (2, 4), "window": (3, 3)}, OptionError, r"fix: window=\(2, 3\)"),
        (
            "neighborhood",
            {"grid": (2, 3), "window": (1, 3)},
            ShapeError,
            r"told of 6 positions; key (?s:.*)has 7\n  fix: (?s:.*)a grid with a cell",
        ),
        ("memory", {"segment": 0, "memory_tokens": 1}, OptionError, r"size is a whole number from 1 upwards"),
        (
            "memory",
            {"segment": 3, "memory_tokens": -1},
            OptionError,
            r"before is a whole number of positions from 0",
        ),
    ],
)
def test_what_means_nothing_is_refused(name, options, error, text):
    query, key, value = inputs()
    with pytest.raises(AttentionError, match=text) as told:
        find(name)(query, key, value, **options)
    assert type(told.value) is error
