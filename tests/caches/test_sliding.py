"""A sliding cache: which mechanisms may let tokens go, how much is held, and what a call's mask may be."""

import itertools

import pytest
import torch

from attnkit import masks
from attnkit.caches import Sliding
from attnkit.catalog import all_mechanisms
from attnkit.errors import OptionError
from attnkit.layers.attention import Attention
from attnkit.positions import Rotary
from attnkit.rule import Rule
from attnkit.scores import Alibi, Bias
from tests.caches.layers import fed, layer_of, tokens

WINDOWED = [
    pytest.param(name, dict(options), id=f"{name}-{number}")
    for name, mechanism in all_mechanisms().items()
    for number, options in enumerate(mechanism.examples)
    if mechanism.settles and "mask" in {option.name for option in mechanism.options}
]


def layer_with(rule, **more):
    return Attention(24, 6, mechanism=rule, **more).double().eval()


@pytest.mark.parametrize(("name", "options"), WINDOWED)
def test_any_mechanism_under_a_window_slides_or_says_that_it_cannot(name, options):
    layer = layer_of(name, options | {"mask": masks.causal & masks.window(3)})
    x = tokens(length=12)
    with torch.no_grad():
        try:
            whole = layer(x)
            caches = [layer.new_cache(kind="sliding") for _ in range(3)]
        except OptionError as error:
            # either outcome is right
            assert "counts what it holds from 0 again" in str(error) or name in str(error)  # noqa: PT017
            return
        for cache, lengths in zip(caches, ([1] * 12, [5, 1, 6], [12]), strict=True):
            torch.testing.assert_close(fed(layer, x, cache, lengths), whole, rtol=0, atol=1e-9)


def test_some_mechanisms_slide_and_some_cannot():
    window = masks.causal & masks.window(3)
    assert layer_of("alibi", {"mask": window}).new_cache(kind="sliding").window == 3
    assert layer_of("off_by_one", {"mask": window}).new_cache(kind="sliding").window == 3


@pytest.mark.parametrize(
    ("mask", "window"),
    [
        (masks.causal & masks.window(5), 5),
        (masks.window(4) & masks.causal & masks.window(9), 4),
        (masks.causal & (masks.window(2) | masks.window(6)), 6),
        (masks.causal & masks.dilated(3, 2), 4),  # it reads 0 and 3 back, so 4 positions reach
        (masks.causal & masks.window(1), 1),
    ],
    ids=repr,
)
def test_the_window_is_found_from_the_mask(mask, window):
    assert layer_with(Rule(mask=mask)).new_cache(kind="sliding").window == window


def test_keys_keep_the_positions_at_which_they_were_turned():
    layer = layer_with(Rule(mask=masks.causal & masks.window(4)), positions=Rotary())
    x = tokens(length=40)
    with torch.no_grad():
        output = fed(layer, x, layer.new_cache(kind="sliding"), [3] + [1] * 30 + [7])
        torch.testing.assert_close(output, layer(x), rtol=0, atol=1e-9)


def test_it_holds_about_twice_a_window_however_long_the_text():
    layer = layer_with(Rule(mask=masks.causal & masks.window(100)))
    cache = layer.new_cache(kind="sliding")
    with torch.no_grad():
        fed(layer, tokens(length=1000), cache, [700] + [1] * 300)
    row = 2 * 2 * 24 * 8  # key and value, two samples, 24 numbers, 8 bytes
    assert (99 + 100) * row == cache.held_bytes
    assert (cache.length, cache.first) == (1000, 901)


def test_most_tokens_are_written_in_place():
    # a window of 100 is laid out in 199 rows: of 200 tokens after the first, two or three find it full
    layer = layer_with(Rule(mask=masks.causal & masks.window(100)))
    cache = layer.new_cache(kind="sliding")
    with torch.no_grad():
        places = []
        for token in tokens(length=300).unbind(1):
            layer(token[:, None], cache=cache)
            places.append(cache.tensors()[0].data_ptr())
    assert 1 <= sum(one != two for one, two in itertools.pairwise(places)) <= 3


def test_a_chunk_has_every_key_that_its_first_query_reads():
    cache = Sliding(3)
    numbers = torch.arange(9.0).view(1, 1, 9, 1)
    with torch.no_grad():
        read = [
            cache.update({"key": part})["key"].flatten().tolist() for part in numbers.split([4, 1, 4], -2)
        ]
    assert read == [[0, 1, 2, 3], [2, 3, 4], [3, 4, 5, 6, 7, 8]]


def test_a_mask_of_a_call_may_be_bools_or_know_distances_alone():
    layer = layer_with(Rule(mask=masks.causal & masks.window(4)))
    x = tokens(length=12)
    keep = torch.rand(2, 12, generator=torch.Generator().manual_seed(0)) < 0.6
    with torch.no_grad():
        cache = layer.new_cache(kind="sliding")
        outputs = [layer(x[:, t : t + 3], cache=cache, mask=masks.strided(2)) for t in range(0, 12, 3)]
        torch.testing.assert_close(torch.cat(outputs, 1), layer(x, mask=masks.strided(2)), rtol=0, atol=1e-9)
        output = fed(layer, x, layer.new_cache(kind="sliding"), [1] * 12, keep)
        torch.testing.assert_close(output, layer(x, mask=keep), rtol=0, atol=1e-9)


@pytest.mark.messages
def test_a_mask_of_a_call_that_counts_positions_is_refused():
    layer = layer_with(Rule(mask=masks.causal & masks.window(4)))
    cache = layer.new_cache(kind="sliding")
    with pytest.raises(OptionError, match=r"first\(2\) is not known to be.*\n  fix: bools \(batch, kv_len\)"):
        layer(tokens(), cache=cache, mask=masks.first(2))


@pytest.mark.messages
@pytest.mark.parametrize("mask", [masks.causal, masks.causal & (masks.window(3) | masks.first(2))], ids=repr)
def test_a_mask_without_a_window_is_refused(mask):
    with pytest.raises(OptionError, match=r"is not known to be a window\n  fix: kind='growing'"):
        layer_with(Rule(mask=mask)).new_cache(kind="sliding")


@pytest.mark.messages
def test_a_rule_that_counts_positions_is_refused():
    window = masks.causal & masks.window(3)
    layer_with(Rule(mask=window, scores=(Alibi(6),))).new_cache(kind="sliding")
    bias = Bias(torch.randn(6, 20, 20, dtype=torch.float64))
    for step in (bias, lambda score, head, q, k: score + q * k):
        with pytest.raises(OptionError, match=r"counts what it holds from 0 again, and rule would read"):
            layer_with(Rule(mask=window, scores=(step,))).new_cache(kind="sliding")


@pytest.mark.messages
def test_a_window_is_a_number_of_positions():
    with pytest.raises(
        OptionError, match=r"Sliding: window is a whole number from 1 upwards; got 0\n  fix: wi"
    ):
        Sliding(0)
