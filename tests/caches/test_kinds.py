"""What each kind of cache promises besides the contract: room, bytes, precision, copies, and its refusals."""

import copy
import io
import itertools

import pytest
import torch

from attnkit import masks
from attnkit.caches import Cast, Growing, Int8, Quantised, Recurrent, Static
from attnkit.errors import DtypeError, OptionError, ShapeError, UnknownNameError
from attnkit.layers.attention import Attention
from attnkit.mechanism import Bound
from attnkit.rule import Rule
from tests.caches.layers import LENGTH, decodes, every_example, fed, layer_of, tokens
from tests.helpers import inputs

ROUNDED = [
    pytest.param(name, options, id=label)
    for label, name, options in every_example()
    if decodes(name, options) and layer_of(name, options).mechanism.recurrence is None
]


def numbers(length, *, start=0, batch=2, dtype=torch.float64):
    """Tokens of one head and one number, which is their position."""
    row = torch.arange(start, start + length, dtype=dtype)[None, None, :, None]
    return {"key": row.expand(batch, 1, -1, 1).contiguous()}


@pytest.mark.parametrize(("name", "options"), ROUNDED)
def test_a_quantised_cache_is_the_full_pass_over_rounded_keys(name, options, monkeypatch):
    layer, x = layer_of(name, options), tokens()
    keys = [part.name for part in layer.projections if part.of == "key"]
    attended, form = Bound.attended, Int8()

    def rounded(self, tensors, *args, **kwargs):
        read = {key: tensors[key] for key in keys}
        return attended(self, tensors | form.read(form.stored(read), read), *args, **kwargs)

    with torch.no_grad():
        outputs = [fed(layer, x, layer.new_cache(kind="quantised"), cut) for cut in ([1] * LENGTH, [3, 1, 3])]
        monkeypatch.setattr(Bound, "attended", rounded)
        expected = layer(x)
    for output in outputs:
        torch.testing.assert_close(output, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_a_rounded_number_is_at_most_one_254th_of_its_rows_largest_away(dtype):
    # scale = largest / 127, and rounding moves a code by half of one; on top, the rounding of dtype itself
    x = 3 * torch.randn(2, 3, 50, 32, dtype=torch.float64).to(dtype)
    x[0, 0, 0] = 0
    (read,) = Quantised().update({"key": x}).values()
    largest = x.double().abs().amax(-1, keepdim=True)
    off = (read.double() - x.double()).abs()
    assert read.dtype == dtype
    assert (off <= largest * (1 / 254 + 2 * torch.finfo(dtype).eps)).all()
    assert off.max() > 0
    assert not read[0, 0, 0].any()


def test_the_context_of_rounded_keys_is_within_its_bound():
    # a score moves by scale * |q . (k' - k)| <= e = scale * |q|_1 * max|k| / 254; weights by a factor of at most
    # exp(2 e), so in all by exp(2 e) - 1; and what they mix by max|v| / 254
    query, key, value = inputs(q_len=20, kv_len=20, heads=3, dtype=torch.float64)
    key, value = (torch.cat([side, side.flip(-1)], -1) for side in (key / 3, value))
    query = torch.cat([query, query], -1) / 3
    rule = Rule(mask=masks.causal)
    read = Quantised().update({"key": key, "value": value})
    off = (rule(query, read["key"], read["value"]) - rule(query, key, value)).abs().amax(-1)
    moved = 8**-0.5 * query.abs().sum(-1) * key.abs().amax() / 254
    bound = value.abs().max() * (1 / 254 + moved.mul(2).expm1())
    assert (off <= bound).all()
    assert bound.max() < value.abs().max() / 2, "a bound that says nothing"
    assert off.max() > 0


def test_a_quantised_cache_takes_little_more_than_a_byte_a_number():
    layer = Attention(64, 2, mechanism="causal")
    plain, small = layer.new_cache(), layer.new_cache(kind="quantised")
    with torch.no_grad():
        for cache in (plain, small):
            layer(torch.randn(1, 10, 64), cache=cache)
    # a row of 32 numbers: 128 bytes, or 32 and a scale of 4
    assert plain.held_bytes == 2 * 2 * 10 * 128
    assert small.held_bytes == 2 * 2 * 10 * (32 + 4)


def test_int8_and_other_dtypes_go_with_any_kind():
    layer = Attention(24, 3, mechanism="sliding_window", window=3).eval()
    x = torch.randn(2, 9, 24)
    with torch.no_grad():
        for kind, more in (("growing", {}), ("static", {"max_tokens": 9}), ("sliding", {})):
            for dtype in (torch.bfloat16, torch.int8):
                caches = [layer.new_cache(kind=kind, dtype=dtype, **more) for _ in range(2)]
                one, two = (fed(layer, x, c, cut) for c, cut in zip(caches, ([1] * 9, [4, 5]), strict=True))
                assert dtype in {tensor.dtype for tensor in caches[0].tensors()}
                torch.testing.assert_close(one, two)
                assert 0 < (one - layer(x)).abs().max() < 0.1


def test_latent_keeps_less_than_multi_head():
    # a token of latent: kv_rank + rope_dim numbers; of multi_head: a key and a value for each of 6 heads of 4
    layer, other = layer_of("latent", {"kv_rank": 8, "rope_dim": 2}), layer_of("multi_head")
    caches = layer.new_cache(), other.new_cache()
    with torch.no_grad():
        for each, cache in zip((layer, other), caches, strict=True):
            each(tokens(), cache=cache)
    assert [cache.held_bytes for cache in caches] == [2 * LENGTH * (8 + 2) * 8, 2 * LENGTH * 2 * 6 * 4 * 8]


def test_a_state_has_one_size_however_long_the_past():
    layer = layer_of("gated_delta")
    cache, sizes = layer.new_cache(), set()
    with torch.no_grad():
        for token in tokens().unbind(1):
            layer(token[:, None], cache=cache)
            sizes.add(cache.held_bytes)
    assert isinstance(cache, Recurrent)
    assert sizes == {2 * 3 * 4 * 4 * 8}  # samples, kv heads, head_dim x d_value, bytes


def test_growing_writes_most_tokens_in_place_and_doubles_nothing_it_need_not():
    cache, places = Growing(), []
    with torch.no_grad():
        for start in range(400):
            cache.update(numbers(1, start=start))
            places.append(cache.tensors()[0].data_ptr())
            assert cache.tensors()[0].shape[-2] <= max(1.5 * (start + 1), start + 1 + 64)
        assert cache.update(numbers(1, start=400))["key"].flatten().tolist() == [*range(401)] * 2
    assert sum(one != two for one, two in itertools.pairwise(places)) <= 8


def test_static_lays_its_memory_out_once():
    cache, places = Static(50), set()
    with torch.no_grad():
        for start in range(50):
            cache.update(numbers(1, start=start))
            places.add(cache.tensors()[0].data_ptr())
        cache.reset()
        cache.update(numbers(3))
    assert len(places | {cache.tensors()[0].data_ptr()}) == 1
    assert cache.held_bytes == 2 * 50 * 8


def test_what_was_read_stays_as_it_was_when_more_is_written():
    cache = Growing()
    with torch.no_grad():
        cache.update(numbers(3))
        read = cache.update(numbers(1, start=3))["key"]
        before = read.clone()
        cache.update(numbers(5, start=9))
    assert torch.equal(read, before)


def test_gradients_survive_tokens_that_follow_without_them():
    layer = layer_of("causal")
    cache, x = layer.new_cache(kind="static", max_tokens=LENGTH), tokens().requires_grad_()
    with torch.no_grad():
        layer(x[:, :2], cache=cache)
    output = layer(x[:, 2:4], cache=cache)
    with torch.no_grad():
        fed(layer, x[:, 4:], cache, [1, 1, 1])
    output.sum().backward()
    assert x.grad[:, 2:4].abs().sum() > 0


def test_a_cache_that_began_in_inference_mode_goes_on_outside():
    layer, x = layer_of("causal"), tokens()
    for kind, more in (("growing", {}), ("static", {"max_tokens": LENGTH})):
        cache = layer.new_cache(kind=kind, **more)
        with torch.inference_mode():
            one = fed(layer, x[:, :4], cache, [3, 1])
        with torch.no_grad():
            two = fed(layer, x[:, 4:], cache, [2, 1])
            torch.testing.assert_close(torch.cat([one, two], 1), layer(x), rtol=0, atol=1e-9)


@pytest.mark.parametrize("kind", ["growing", "static", "sliding", "quantised"])
def test_a_copy_of_a_cache_goes_its_own_way(kind):
    layer, x, other = layer_of("sliding_window", {"window": 3}), tokens(), tokens(seed=5)
    cache = layer.new_cache(kind=kind, **({"max_tokens": LENGTH} if kind == "static" else {}))
    with torch.no_grad():
        fed(layer, x[:, :4], cache, [3, 1])
        saved = io.BytesIO()
        torch.save(cache, saved)
        saved.seek(0)
        copies = copy.deepcopy(cache), torch.load(saved, weights_only=False)
        expected = layer(x[:, 4:], cache=copy.deepcopy(cache))
        layer(other[:, 4:], cache=cache)
        for each in copies:
            torch.testing.assert_close(layer(x[:, 4:], cache=each), expected, rtol=0, atol=0)


def test_reset_takes_another_batch_where_none_is_said():
    layer = layer_of("causal")
    cache = layer.new_cache()
    with torch.no_grad():
        layer(tokens(batch=2), cache=cache)
        cache.reset()
        assert layer(tokens(batch=3), cache=cache).shape[0] == 3


def test_a_cache_says_what_it_is():
    cache = Growing()
    with torch.no_grad():
        cache.update(numbers(3))
    assert repr(cache) == "<Growing cache: 3 tokens, 48 bytes>"


@pytest.mark.messages
def test_a_full_cache_says_so_and_overwrites_nothing():
    layer, x = layer_of("causal"), tokens()
    cache = layer.new_cache(kind="static", max_tokens=4, batch=2)
    with torch.no_grad():
        outputs = [layer(x[:, :3], cache=cache)]
        told = (
            r"Static: the cache has room for 4 tokens and holds 3; 2 more do not fit\n  fix: .*max_tokens=5"
        )
        with pytest.raises(ShapeError, match=told):
            layer(x[:, 3:5], cache=cache)
        outputs.append(layer(x[:, 3:4], cache=cache))
        with pytest.raises(ShapeError, match="holds 4; 1 more"):
            layer(x[:, 4:5], cache=cache)
        torch.testing.assert_close(torch.cat(outputs, 1), layer(x[:, :4]), rtol=0, atol=1e-9)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"kind": "statik"}, UnknownNameError, r"no kind of cache 'statik'\n  fix: did you mean 'static'\?"),
        ({"kind": "static"}, OptionError, r"how many tokens\n  fix: max_tokens=1024"),
        ({"kind": "static", "max_tokens": 0}, OptionError, r"from 1 upwards; got 0\n  fix: max_tokens=512"),
        ({"max_tokens": 9}, OptionError, r"size of a static cache; got kind='growing'\n  fix: kind='static'"),
        (
            {"kind": "state"},
            OptionError,
            r"causal is no recurrence and has no state.*\n  fix: kind='growing'",
        ),
        ({"batch": 0}, OptionError, r"from 1 upwards; got 0\n  fix: batch=x.shape\[0\]"),
        ({"dtype": torch.int32}, DtypeError, r"got torch.int32\n  fix: dtype=torch.bfloat16"),
        ({"dtype": "half"}, DtypeError, r"got 'half'\n  fix: dtype=torch.bfloat16"),
        (
            {"kind": "quantised", "dtype": torch.half},
            OptionError,
            r"int8; got dtype=torch.float16\n  fix: lea",
        ),
    ],
)
def test_a_cache_that_there_is_not_is_refused(options, error, text):
    with pytest.raises(error, match=text):
        layer_of("causal").new_cache(**options)


@pytest.mark.messages
@pytest.mark.parametrize("options", [{"kind": "static", "max_tokens": 9}, {"dtype": torch.half}])
def test_a_recurrence_has_a_state_alone(options):
    with pytest.raises(
        OptionError, match=r"a recurrence, which holds a state of one size; got .*\n  fix: layer"
    ):
        layer_of("gated_delta").new_cache(**options)


@pytest.mark.messages
def test_rounding_where_gradients_are_asked_is_refused():
    layer = layer_of("causal")
    with pytest.raises(OptionError, match=r"would stop the gradients.*\n  fix: with torch.no_grad\(\)"):
        layer(tokens(), cache=layer.new_cache(kind="quantised"))


@pytest.mark.messages
@pytest.mark.parametrize(
    ("new", "error", "text"),
    [
        (
            numbers(1, batch=3),
            ShapeError,
            r"is for 2 samples; these tokens are of 3\n  fix: a cache for each",
        ),
        (
            {"value": numbers(1)["key"]},
            ShapeError,
            r"it holds key; these tokens have value\n  fix: a cache for",
        ),
        (
            {"key": torch.zeros(2, 3, 1, 1)},
            ShapeError,
            r"it holds key \(2, 1, 3, 1\); \(2, 3, 1, 1\) differs",
        ),
        (
            numbers(1, dtype=torch.half),
            OptionError,
            r"as torch.float64 on cpu.*float16 on cpu\n  fix: autocast",
        ),
    ],
)
def test_tokens_that_do_not_go_on_are_refused(new, error, text):
    for cache in (Growing(), Static(9)):
        cache.update(numbers(3))
        with pytest.raises(error, match=text):
            cache.update(new)
        assert cache.length == 3


def test_tokens_of_another_dtype_are_converted_where_a_dtype_is_said():
    cache = Growing(form=Cast(torch.float32))
    cache.update(numbers(3, dtype=torch.half))
    read = cache.update(numbers(2, start=3))["key"]
    assert read.dtype == torch.float64
    assert read[0].flatten().tolist() == [0, 1, 2, 3, 4]


@pytest.mark.messages
@pytest.mark.parametrize(
    ("samples", "text"),
    [
        (
            [0, 1],
            r"samples are whole numbers \(new_batch,\), a tensor; got list\n  fix: samples=torch.tensor",
        ),
        (torch.tensor([0.0]), r"a tensor; got torch.float32 \(1,\)"),
        (torch.tensor([[0]]), r"a tensor; got torch.int64 \(1, 1\)"),
        (
            torch.tensor([0, 2]),
            r"count the 2 samples that the cache holds from 0; got \[0, 2\]\n  fix: .* 0 to 1",
        ),
        (torch.tensor([-1, 0]), r"from 0; got \[-1, 0\]"),
    ],
)
def test_samples_that_there_are_not_are_refused(samples, text):
    for cache in (Growing(), Static(9)):
        cache.update(numbers(3))
        with pytest.raises(OptionError, match=text):
            cache.reorder(samples)
        assert cache.update(numbers(1, start=3))["key"].shape == (2, 1, 4, 1)


@pytest.mark.messages
def test_a_batch_that_was_said_does_not_change():
    cache = Growing(batch=2)
    cache.update(numbers(3))
    with pytest.raises(OptionError, match=r"made for batch=2; got 3 samples\n  fix: leave batch out"):
        cache.reorder(torch.tensor([0, 0, 1]))
    layer = layer_of("causal")
    with pytest.raises(
        ShapeError, match=r"x \(2, 7, 24\) has a batch of 2; the cache is for 4\n  fix: a cache"
    ):
        layer(tokens(), cache=layer.new_cache(batch=4))


def test_an_empty_cache_is_reordered_to_nothing():
    layer = layer_of("causal")
    cache = layer.new_cache()
    cache.reorder(torch.tensor([0, 0]))
    assert cache.length == 0
    torch.testing.assert_close(layer(tokens(), cache=cache), layer(tokens()), rtol=0, atol=1e-9)
