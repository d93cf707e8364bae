"""A layer of any mechanism as a module of PyTorch: what it computes, its parameters, copies, dtypes and devices."""

import copy
import inspect
import io

import pytest
import torch
from torch import nn

from attnkit import masks
from attnkit.catalog import all_mechanisms
from attnkit.converters import Table
from attnkit.layers.attention import Attention
from attnkit.layers.weighing import weights_of
from attnkit.positions import Rotary
from attnkit.rule import Rule
from tests.caches.layers import LENGTH, decodes, every_example, kv_heads, layer_of, tokens

EXAMPLES = [pytest.param(name, options, id=label) for label, name, options in every_example()]
ABOUT_A_CALL = [
    pytest.param(name, options, id=label) for label, name, options in every_example() if label[-2:] == "-0"
]


def test_a_causal_layer_equals_pytorch_by_hand():
    # independent oracle: PyTorch's linear and scaled_dot_product_attention, head by head, with the mask written out
    layer = Attention(24, 6, mechanism="causal", num_kv_heads=3, head_dim=5, bias=True).double()
    with torch.no_grad():
        for name in ("query", "key", "value", "output"):
            getattr(layer, name).bias.uniform_(-1, 1)
    x = tokens()
    query, key, value = (layer.get_submodule(name)(x) for name in ("query", "key", "value"))
    keep = torch.tensor([[k <= q for k in range(LENGTH)] for q in range(LENGTH)])
    heads = []
    for head in range(6):
        shared = head // 2
        sides = query[..., 5 * head : 5 * head + 5], key[..., 5 * shared : 5 * shared + 5]
        read = value[..., 5 * shared : 5 * shared + 5]
        heads.append(nn.functional.scaled_dot_product_attention(*sides, read, attn_mask=keep))
    torch.testing.assert_close(layer(x), layer.output(torch.cat(heads, -1)), rtol=0, atol=1e-10)


def test_cross_attention_reads_the_memory_alone():
    layer = Attention(24, 6, mechanism="full", memory_dim=10).double()
    x, memory = tokens(length=4), torch.randn(2, 9, 10, dtype=torch.float64)
    sides = (layer.query(x), layer.key(memory), layer.value(memory))
    query, key, value = (side.unflatten(-1, (6, 4)).transpose(1, 2) for side in sides)
    context = nn.functional.scaled_dot_product_attention(query, key, value)
    torch.testing.assert_close(layer(x, memory), layer.output(context.transpose(1, 2).flatten(-2)))


@pytest.mark.parametrize("kind", ["growing", "static", "quantised"])
def test_a_memory_is_read_once_and_then_from_the_cache(kind):
    layer = Attention(24, 6, mechanism="full", memory_dim=10).double().eval()
    x, memory = tokens(length=4), torch.randn(2, 9, 10, dtype=torch.float64)
    mask = torch.rand(2, 9, generator=torch.Generator().manual_seed(0)) < 0.6
    cache = layer.new_cache(kind=kind, **({"max_tokens": 9} if kind == "static" else {}))
    with torch.no_grad():
        first = layer(x, memory, cache=cache, mask=mask)
        if kind != "quantised":
            torch.testing.assert_close(first, layer(x, memory, mask=mask))
        reads = []
        layer.key.register_forward_hook(lambda module, given, made: reads.append(made.shape[-2]))
        # a memory of the same length that is not looked at again
        outputs = [layer(token, memory * torch.nan, cache=cache, mask=mask) for token in x.split(1, 1)]
    torch.testing.assert_close(torch.cat(outputs, 1), first)
    assert reads == [0] * 4
    assert cache.length == 9


def test_rotary_positions_of_the_layer_are_those_of_a_rule():
    x = tokens()
    torch.manual_seed(0)
    layer = Attention(24, 6, mechanism="causal", positions=Rotary()).double()
    torch.manual_seed(0)
    other = Attention(24, 6, mechanism=Rule(mask=masks.causal, positions=Rotary())).double()
    torch.testing.assert_close(layer(x), other(x), rtol=0, atol=1e-12)
    assert (layer(x) - Attention(24, 6, mechanism="causal").double()(x)).abs().max() > 0.1


@pytest.mark.parametrize(("name", "options"), ABOUT_A_CALL)
def test_samples_may_have_any_number_of_axes_or_none(name, options):
    layer, x = layer_of(name, options), tokens(batch=6)
    with torch.no_grad():
        whole = layer(x)
        torch.testing.assert_close(layer(x.unflatten(0, (2, 3))).flatten(0, 1), whole, rtol=0, atol=1e-9)
        torch.testing.assert_close(layer(x[4]), whole[4], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("name", "options"), ABOUT_A_CALL)
def test_a_gradient_reaches_every_parameter(name, options):
    layer = layer_of(name, options, bias=True)
    layer(tokens()).square().sum().backward()
    # which keys are picked is no number that a gradient could move: the paper trains its indexer by a loss of its own
    reached = {
        n: p for n, p in layer.named_parameters() if not (name == "indexed" and n.startswith("index_"))
    }
    assert [n for n, p in reached.items() if p.grad is None or not p.grad.isfinite().all()] == []


@pytest.mark.parametrize(("name", "options"), EXAMPLES)
def test_copies_by_every_way_give_the_same(name, options):
    layer, x = layer_of(name, options), tokens()
    saved = io.BytesIO()
    torch.save(layer, saved)
    saved.seek(0)
    fresh = Attention(24, 6, mechanism=name, **kv_heads(name), **options).double().eval()
    assert list(fresh.state_dict()) == list(layer.state_dict())
    fresh.load_state_dict(layer.state_dict())
    with torch.no_grad():
        for other in (copy.deepcopy(layer), torch.load(saved, weights_only=False), fresh):
            assert torch.equal(other(x), layer(x))
            assert repr(other) == repr(layer)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize(("name", "options"), ABOUT_A_CALL)
def test_half_precision_stays_and_decodes(name, options, dtype):
    layer, x = layer_of(name, options).to(dtype), tokens().to(dtype)
    with torch.no_grad():
        output = layer(x)
        assert output.dtype == dtype
        assert output.isfinite().all()
        if decodes(name, options):
            cache = layer.new_cache()
            assert torch.cat([layer(token, cache=cache) for token in x.split(1, 1)], 1).isfinite().all()


@pytest.mark.parametrize(("name", "options"), ABOUT_A_CALL)
def test_autocast_computes_in_bfloat16_and_decodes(name, options):
    layer, x = layer_of(name, options).float(), tokens().float()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
        assert output.isfinite().all()
        if decodes(name, options):
            cache = layer.new_cache()
            assert torch.cat([layer(token, cache=cache) for token in x.split(1, 1)], 1).isfinite().all()


def test_a_layer_is_made_without_memory_and_filled_later():
    with torch.device("meta"):
        layer = Attention(24, 6, mechanism="sink")
    assert {parameter.device.type for parameter in layer.parameters()} == {"meta"}
    layer.to_empty(device="cpu").reset_parameters()
    assert layer(torch.randn(2, 7, 24)).isfinite().all()
    assert not layer.sink.any()


def test_parameters_are_drawn_by_xavier_and_zero():
    torch.manual_seed(0)
    layer = Attention(240, 6, mechanism="causal", num_kv_heads=3, bias=True)
    for name, d_out in (("query", 240), ("key", 120), ("value", 120)):
        # Xavier's uniform is within sqrt(6 / (d_in + d_out)); of so many draws one comes near
        most = getattr(layer, name).weight.abs().max().item()
        assert 0.99 < most / (6 / (240 + d_out)) ** 0.5 <= 1
    assert not any(bias.any() for name, bias in layer.named_parameters() if name.endswith("bias"))
    before = {name: tensor.clone() for name, tensor in layer.state_dict().items()}
    torch.manual_seed(0)
    layer.reset_parameters()
    assert all(layer.state_dict()[name].shape == tensor.shape for name, tensor in before.items())
    assert not torch.equal(layer.query.weight, before["query.weight"])


def test_names_of_parameters_are_those_of_the_formula():
    names = set(Attention(24, 6, mechanism="sink", bias=True).state_dict())
    sides = ("query", "key", "value", "output")
    assert names == {f"{side}.{kind}" for side in sides for kind in ("weight", "bias")} | {"sink"}


def test_a_print_tells_what_is_not_usual():
    layer = Attention(24, 6, mechanism="sliding_window", window=3, num_kv_heads=2, dropout=0.1)
    told = repr(layer).splitlines()[1].strip()
    assert told.startswith(
        "d_model=24, num_heads=6, mechanism='sliding_window', num_kv_heads=2, dropout=0.1, window=3"
    )


def test_dropout_acts_while_training_alone():
    layer, x = Attention(24, 6, mechanism="causal", dropout=0.5), torch.randn(2, 7, 24)
    layer.train()
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_a_mask_of_a_call_hides_more_than_the_mechanism():
    layer, x = Attention(24, 6, mechanism="causal").double(), tokens()
    keep = torch.ones(2, LENGTH, dtype=torch.bool)
    keep[0, :2] = False
    pairs = Table(keep[:, None, :].expand(-1, LENGTH, -1))
    torch.testing.assert_close(layer(x, mask=keep), layer(x, mask=pairs))
    torch.testing.assert_close(layer(x, mask=keep)[1], layer(x)[1])
    assert (layer(x, mask=keep) - layer(x))[0, 2:].abs().max() > 0.01


def test_a_table_of_the_readers_own_is_no_padding():
    # a table with a row for each position, in a call that goes on from a cache
    layer, x = Attention(24, 6, mechanism="causal").double().eval(), tokens()
    mask = Table(torch.rand(LENGTH, LENGTH, generator=torch.Generator().manual_seed(0)) < 0.6)
    cache = layer.new_cache()
    outputs = [layer(token, cache=cache, mask=mask) for token in x.split(1, 1)]
    torch.testing.assert_close(torch.cat(outputs, 1), layer(x, mask=mask), rtol=0, atol=1e-9)


def test_no_mechanism_has_an_option_that_the_layer_takes_itself():
    taken = set(inspect.signature(Attention).parameters) - {"options"}
    taken |= {"memory", "cache", "self"}
    clashes = {
        name: clash
        for name, mechanism in all_mechanisms().items()
        if (clash := taken & {option.name for option in mechanism.options})
    }
    assert clashes == {}


@pytest.mark.parametrize(("name", "options"), EXAMPLES)
def test_values_mixed_by_the_weights_are_what_the_layer_gives(name, options):
    layer = layer_of(name, options).double().eval()
    x = tokens()
    found = weights_of(layer, x)
    assert found.shape == (2, layer.num_heads, LENGTH, LENGTH)
    values_are_plain = layer.mechanism.finish is None and layer.value.out_features == layer.key.out_features
    if not values_are_plain or name == "shaw_relative":  # which adds to a value what its distance says
        pytest.skip("what is mixed is more than the values, or is changed afterwards")
    tensors = layer._tensors(x, None, None, q_start=0)
    value = tensors["value"].repeat_interleave(layer.num_heads // tensors["value"].shape[1], 1)
    torch.testing.assert_close(layer.output((found @ value).transpose(1, 2).flatten(-2)), layer(x))


def test_weights_hide_what_is_masked_and_follow_a_memory():
    layer = Attention(24, 6, mechanism="full", memory_dim=10).double()
    x, memory = tokens(length=4), torch.randn(2, 9, 10, dtype=torch.float64)
    mask = torch.ones(2, 9, dtype=torch.bool)
    mask[1, 5:] = False
    found = weights_of(layer, x, memory, mask=mask)
    assert found.shape == (2, 6, 4, 9)
    assert not found[1, ..., 5:].any()
    assert bool((found[0, ..., 5:] > 0).all())


def test_a_projection_in_two_parts_is_drawn_anew_too():
    layer = Attention(24, 4, mechanism="causal")
    layer.query = nn.Sequential(nn.Linear(24, 6, bias=False), nn.RMSNorm(6), nn.Linear(6, 24, bias=False))
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.fill_(7.0)
    layer.reset_parameters()
    assert not any((parameter == 7).any() for parameter in layer.parameters())
    assert layer.query[1].weight.tolist() == [1.0] * 6
