"""What a layer refuses, and what it says to write instead."""

import pytest
import torch

from attnkit import masks
from attnkit.caches import Growing, Recurrent
from attnkit.errors import DtypeError, OptionError, ShapeError, UnknownNameError
from attnkit.layers.attention import Attention
from attnkit.positions import Rotary
from attnkit.rule import Rule

pytestmark = pytest.mark.messages
X = torch.randn(2, 7, 24)
MEMORY = torch.randn(2, 5, 24)


def made(**options):
    return Attention(**{"d_model": 24, "num_heads": 6, "mechanism": "causal"} | options)


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        (
            {"mechanism": "multi_query", "num_kv_heads": 2},
            OptionError,
            r'keys of multi_query have 1 head by nature; got num_kv_heads=2\n  fix: .*mechanism="grouped_query"',
        ),
        (
            {"mechanism": "linformer", "rank": 0, "context_length": 7},
            OptionError,
            r"key_map of linformer would have a size of 0\n  fix: sizes are 1, 2, 3, \.\.\.; attnkit show linformer",
        ),
        ({"mechanism": "causl"}, UnknownNameError, r"no mechanism 'causl'\n  fix: did you mean 'causal'\?"),
        (
            {"mechanism": Rule},
            OptionError,
            r'is a name, a Mechanism or a Rule; got type\n  fix: mechanism="causal"',
        ),
        (
            {"windw": 3, "mechanism": "sliding_window"},
            UnknownNameError,
            r"'windw'\n  fix: did you mean 'window'\?",
        ),
        (
            {"mechanism": "sliding_window"},
            OptionError,
            r"window is missing, .*\n  fix: for instance window=3",
        ),
        (
            {"d_model": 25},
            ShapeError,
            r"6 heads cannot share d_model=25 evenly: 4.17 numbers each\n  fix: d_model=30",
        ),
        ({"d_model": "24"}, OptionError, r"d_model is 1, 2, 3, ...; got '24'\n  fix: d_model=8"),
        ({"num_heads": 0}, OptionError, r"num_heads is 1, 2, 3, ...; got 0\n  fix: num_heads=8"),
        ({"memory_dim": 0}, OptionError, r"memory_dim is 1, 2, 3, ...; got 0\n  fix: memory_dim=8"),
        ({"head_dim": True}, OptionError, r"head_dim is 1, 2, 3, ...; got True\n  fix: head_dim=8"),
        (
            {"num_kv_heads": 4},
            OptionError,
            r"share num_kv_heads=4 evenly\n  fix: num_kv_heads is one of 1, 2, 3, 6",
        ),
        ({"dropout": 1.5}, OptionError, r"from 0 to 1; got 1.5\n  fix: dropout=0.1"),
        (
            {"mechanism": "gated_delta", "dropout": 0.1},
            OptionError,
            r"gated_delta has no weights .*\n  fix: dropout=0",
        ),
        (
            {"positions": "rotary"},
            OptionError,
            r"attnkit.positions; got 'rotary'\n  fix: positions=positions.Rotary",
        ),
        (
            {"mechanism": "rotary", "positions": Rotary()},
            OptionError,
            r"rotary has no place for positions.*\n  fix: leave",
        ),
        (
            {"mechanism": Rule(positions=Rotary()), "positions": Rotary()},
            OptionError,
            r"rule has no place for positions: it turns or widens query and key itself\n  fix: leave positions out",
        ),
        (
            {"mechanism": Rule(dropout=0.2)},
            OptionError,
            r"a rule with dropout=0.2\n  fix: Attention\(..., dropout=0.2",
        ),
    ],
)
def test_a_layer_that_there_is_not_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        made(**options)


@pytest.mark.parametrize(
    ("x", "options", "error", "text"),
    [
        (X[..., :5], {}, ShapeError, r"the last axis of x \(2, 7, 5\) is 5; this layer was made for d_in=24"),
        (X.long(), {}, DtypeError, r"x holds int64; attention needs floats"),
        (X[0, 0], {}, ShapeError, r"x has shape \(24,\); .*\n  fix: one single token is x\[None\]"),
        (
            X,
            {"memory": MEMORY},
            OptionError,
            r"causal hides what comes later here.*\n  fix: mechanism=\"full\"",
        ),
        (X, {"mask": X}, DtypeError, r"mask holds torch.float32; a mask is bool.*\n  fix: mask.bool\(\)"),
        (
            X,
            {"mask": torch.ones(2, 5, dtype=torch.bool)},
            ShapeError,
            r"mask \(2, 5\) is no \(2, 7\).*\n  fix: one b",
        ),
        (
            X,
            {"mask": [True] * 7},
            OptionError,
            r"mask is one of attnkit.masks; got list\n  fix: masks.causal",
        ),
        (
            X,
            {"cache": {}},
            OptionError,
            r"cache is what new_cache made; got dict\n  fix: cache=layer.new_cache\(\)",
        ),
        (
            X,
            {"cache": Recurrent()},
            OptionError,
            r"causal cannot go on from a Recurrent cache\n  fix: cache=layer",
        ),
        (X[0], {"cache": Growing()}, ShapeError, r"one batch axis.*x is \(7, 24\)\n  fix: x\[None\]"),
        (
            X[None],
            {"cache": Growing()},
            ShapeError,
            r"x is \(1, 2, 7, 24\)\n  fix: x\[None\] for one sample, x.flat",
        ),
    ],
)
def test_a_call_that_means_nothing_is_refused(x, options, error, text):
    with pytest.raises(error, match=text):
        made()(x, **options)


@pytest.mark.parametrize(
    ("memory", "text"),
    [
        (
            MEMORY[..., :4],
            r"last axis of memory \(2, 5, 4\) is 4; .*memory_dim=24\n  fix: make .*memory_dim=4",
        ),
        (MEMORY[:1], r"memory \(1, 5, 24\) is for a batch of \(1,\); x is \(2, 7, 24\)\n  fix: .*expand"),
    ],
)
def test_a_memory_that_does_not_fit_is_refused(memory, text):
    with pytest.raises(ShapeError, match=text):
        made(mechanism="full")(X, memory)


def test_a_memory_of_another_width_must_be_given():
    with pytest.raises(
        ShapeError, match=r"reads a memory of memory_dim=10, which x .* is not\n  fix: layer\(x, mem"
    ):
        made(mechanism="full", memory_dim=10)(X)


def test_a_cache_holds_one_memory():
    layer = made(mechanism="full")
    cache = layer.new_cache()
    layer(X, MEMORY, cache=cache)
    with pytest.raises(
        ShapeError, match=r"another memory, of 5 tokens; memory is \(2, 7, 24\)\n  fix: a cache for e"
    ):
        layer(X, X, cache=cache)
    assert cache.length == 5


def test_a_recurrence_reads_no_memory_and_takes_its_own_cache():
    layer = made(mechanism="gated_delta")
    with pytest.raises(OptionError, match=r'gated_delta is a recurrence over one.*\n  fix: mechanism="full"'):
        layer(X, MEMORY)
    with pytest.raises(
        OptionError, match=r"gated_delta cannot go on from a Growing cache\n  fix: cache=layer.new"
    ):
        layer(X, cache=Growing())


def test_what_reads_the_future_says_how_it_would_not():
    layer = made(mechanism="off_by_one", mask=masks.full)
    fix = r'fix: Attention\(..., mechanism="off_by_one", mask=masks.causal\)'
    with pytest.raises(OptionError, match=rf"off_by_one reads the future here.*\n  {fix}"):
        layer(X, cache=layer.new_cache())
    with pytest.raises(
        OptionError, match=r"full reads the future here.*\n  fix: call it on all tokens at once"
    ):
        made(mechanism="full")(X, cache=Growing())
    with pytest.raises(OptionError, match=r'fix: Attention\(..., mechanism="off_by_one", mask=masks.full\)'):
        made(mechanism="off_by_one")(X, MEMORY)
