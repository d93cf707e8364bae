"""A layer with a cache, fed in chunks of any lengths, gives what it gives for all tokens at once."""

import copy

import pytest
import torch

from attnkit.caches import Recurrent, Sliding
from attnkit.errors import AttentionError, OptionError
from tests.caches.layers import CHUNKS, LENGTH, decodes, every_example, fed, layer_of, tokens

TOLERANCE = 1e-9  # in float64, of numbers of about 1 to 10
CASES = list(every_example())
DECODING = [pytest.param(name, options, id=label) for label, name, options in CASES if decodes(name, options)]
READING_AHEAD = [
    pytest.param(name, options, id=label) for label, name, options in CASES if not decodes(name, options)
]


def kinds(layer):
    """Every kind of cache whose numbers are exact that `layer` can have."""
    if layer.mechanism.recurrence is not None:
        return {"state": {}}
    found = {"growing": {}, "static": {"max_tokens": LENGTH}}
    try:
        layer.new_cache(kind="sliding")
    except OptionError:
        return found
    return found | {"sliding": {}}


@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize(("name", "options"), DECODING)
def test_a_cache_fed_in_any_chunks_equals_the_full_pass(name, options, grad):
    layer = layer_of(name, options)
    x = tokens()
    with torch.set_grad_enabled(grad):
        whole = layer(x)
        for kind, more in kinds(layer).items():
            for lengths in CHUNKS:
                output = fed(layer, x, layer.new_cache(kind=kind, **more), lengths)
                torch.testing.assert_close(output, whole, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "options"), READING_AHEAD)
def test_what_reads_the_future_takes_no_cache(name, options):
    layer = layer_of(name, options)
    with pytest.raises(OptionError, match="reads the future"):
        layer(tokens(), cache=layer.new_cache())


@pytest.mark.parametrize(("name", "options"), DECODING)
def test_padding_on_the_left_and_on_the_right_is_left_out_of_every_chunk(name, options):
    layer = layer_of(name, options)
    x = tokens()
    mask = torch.ones(2, LENGTH, dtype=torch.bool)
    mask[0, :2] = False  # two of padding before sample 0, two after sample 1
    mask[1, -2:] = False
    with torch.no_grad():
        whole = layer(x, mask=mask)
        assert not torch.equal(whole, layer(x)), "the mask changes nothing"
        for kind, more in kinds(layer).items():
            for lengths in CHUNKS:
                output = fed(layer, x, layer.new_cache(kind=kind, **more), lengths, mask)
                torch.testing.assert_close(output, whole, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "options"), DECODING)
def test_beams_go_on_from_the_samples_that_they_are_given(name, options):
    layer = layer_of(name, options)
    x, beams = tokens(), torch.tensor([1, 1, 0])
    with torch.no_grad():
        whole = layer(x[beams])
        for kind, more in kinds(layer).items():
            cache = layer.new_cache(kind=kind, **more)
            fed(layer, x, cache, [2, 3])
            cache.reorder(beams)
            output = fed(layer, x[beams][:, 5:], cache, [1, 1])
            torch.testing.assert_close(output, whole[:, 5:], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "options"), DECODING)
def test_a_cache_that_was_reset_is_as_good_as_new(name, options):
    layer = layer_of(name, options)
    with torch.no_grad():
        whole = layer(tokens())
        for kind, more in kinds(layer).items():
            cache = layer.new_cache(kind=kind, **more)
            fed(layer, tokens(seed=1), cache, [5, 1])
            cache.reset()
            assert (cache.length, cache.first) == (0, 0)
            output = fed(layer, tokens(), cache, [3, 4])
            torch.testing.assert_close(output, whole, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("grad", [False, True], ids=["no_grad", "grad"])
@pytest.mark.parametrize(("name", "options"), DECODING)
def test_an_error_leaves_the_cache_as_it_was(name, options, grad):
    layer = layer_of(name, options)
    x = tokens()
    broken = copy.deepcopy(layer)
    broken.output.forward = lambda context: 1 / 0  # the very last thing that a call does
    with torch.set_grad_enabled(grad):
        whole = layer(x)
        for kind, more in kinds(layer).items():
            cache = layer.new_cache(kind=kind, **more)
            outputs = []
            for start, stop in ((0, 3), (3, 4), (4, 7)):
                with pytest.raises(ZeroDivisionError):
                    broken(tokens(seed=2)[:, start:stop], cache=cache)
                with pytest.raises(AttentionError):
                    layer(x[:, start:stop], cache=cache, mask=torch.ones(2, 1, dtype=torch.bool))
                outputs.append(layer(x[:, start:stop], cache=cache))
            torch.testing.assert_close(torch.cat(outputs, 1), whole, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(("name", "options"), DECODING)
def test_gradients_flow_through_a_cache_as_through_the_full_pass(name, options):
    layer = layer_of(name, options)
    x, probe = tokens(), tokens(seed=3)
    leaf = x.clone().requires_grad_()
    (layer(leaf) * probe).sum().backward()
    for kind, more in kinds(layer).items():
        other = x.clone().requires_grad_()
        (fed(layer, other, layer.new_cache(kind=kind, **more), [3, 1, 3]) * probe).sum().backward()
        torch.testing.assert_close(other.grad, leaf.grad, rtol=1e-9, atol=1e-8)


@pytest.mark.parametrize(("name", "options"), DECODING)
def test_a_cache_holds_no_more_than_it_says(name, options):
    layer = layer_of(name, options)
    cache = layer.new_cache()
    with torch.no_grad():
        fed(layer, tokens(), cache, [3, 4])
    assert cache.length == LENGTH
    assert cache.batch == 2
    assert cache.held_bytes == sum(t.numel() * t.element_size() for t in cache.tensors()) > 0
    assert isinstance(cache, Recurrent) or cache.first == 0
    assert not isinstance(cache, Sliding)
