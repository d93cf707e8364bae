"""Parameters from nn.MultiheadAttention and back: equal outputs, of PyTorch's own module as the oracle."""

import pytest
import torch
from torch import nn

from attnkit import converters, masks
from attnkit.errors import OptionError
from attnkit.layers.attention import Attention
from attnkit.positions import Rotary
from attnkit.rule import Rule

X = 3 * torch.randn(2, 7, 24, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
MEMORY = 3 * torch.randn(2, 5, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
KEEP = torch.tensor([[True] * 7, [True] * 4 + [False] * 3])


def torch_module(**options):
    torch.manual_seed(0)
    module = nn.MultiheadAttention(24, 6, dtype=torch.float64, **{"batch_first": True} | options)
    with torch.no_grad():  # biases start at zero, where nobody would see them mixed up
        for parameter in module.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return module.eval()


def by_torch(module, x, memory=None, **masks):
    memory = x if memory is None else memory
    if not module.batch_first:
        x, memory = x.transpose(0, 1), memory.transpose(0, 1)
    output = module(x, memory, memory, need_weights=False, **masks)[0]
    return output if module.batch_first else output.transpose(0, 1)


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("masked", [False, True])
def test_a_layer_from_torch_gives_what_the_module_gives(batch_first, bias, masked):
    module = torch_module(batch_first=batch_first, bias=bias)
    layer = Attention.from_torch(module)
    output = layer(X, mask=KEEP if masked else None)
    expected = by_torch(module, X, key_padding_mask=~KEEP if masked else None)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("bias", [True, False])
def test_keys_and_values_of_another_width_go_both_ways(bias):
    module = torch_module(kdim=10, vdim=10, bias=bias)
    layer = Attention.from_torch(module)
    torch.testing.assert_close(layer(X, MEMORY), by_torch(module, X, MEMORY), rtol=0, atol=1e-10)
    back = layer.to_torch()
    torch.testing.assert_close(by_torch(back, X, MEMORY), by_torch(module, X, MEMORY), rtol=0, atol=1e-10)


def test_a_causal_layer_is_the_module_with_a_causal_mask():
    module = torch_module()
    layer = Attention.from_torch(module, mechanism="causal")
    future = converters.to_multihead(masks.causal, 7, 7, num_heads=6)
    torch.testing.assert_close(layer(X), by_torch(module, X, attn_mask=future), rtol=0, atol=1e-10)


def test_options_of_a_mechanism_go_with_it():
    layer = Attention.from_torch(torch_module(), mechanism="sliding_window", window=3)
    assert layer.bound.options["window"] == 3


@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_a_module_made_of_a_layer_gives_what_the_layer_gives(batch_first, bias):
    torch.manual_seed(0)
    layer = Attention(24, 6, mechanism="full", bias=bias, dropout=0.25).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    module = layer.to_torch(batch_first=batch_first)
    assert (module.dropout, module.batch_first, module.training) == (0.25, batch_first, False)
    torch.testing.assert_close(by_torch(module, X), layer(X), rtol=0, atol=1e-10)
    again = Attention.from_torch(module)
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in layer.state_dict().items())


def test_mode_dtype_and_training_go_over_and_nothing_is_shared():
    module = torch_module(dropout=0.5).float().train()
    layer = Attention.from_torch(module)
    assert (layer.training, layer.dropout, layer.query.weight.dtype) == (True, 0.5, torch.float32)
    assert all(parameter.requires_grad for parameter in layer.parameters())
    before = module.in_proj_weight.clone()
    with torch.no_grad():
        layer.query.weight.zero_()
    assert torch.equal(module.in_proj_weight, before)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"add_bias_kv": True},
            r"add_bias_kv=True reads a key that belongs to no token.*\n  fix: mechanism=\"sink\"",
        ),
        ({"add_zero_attn": True}, r"add_zero_attn=True reads a key .*\n  fix: mechanism=\"off_by_one\""),
        ({"kdim": 10, "vdim": 24}, r"kdim=10 and vdim=24 differ; .*\n  fix: a memory that holds both"),
    ],
)
def test_a_module_that_does_what_no_layer_does_is_refused(options, text):
    with pytest.raises(OptionError, match=text):
        Attention.from_torch(torch_module(**options))


def test_a_zero_that_is_added_is_off_by_one():
    # what the refusal of add_zero_attn promises
    module = torch_module(add_zero_attn=True)
    layer = Attention(24, 6, mechanism="off_by_one", mask=masks.full, bias=True).double()
    plain = nn.MultiheadAttention(24, 6, batch_first=True, dtype=torch.float64)
    plain.load_state_dict(module.state_dict())
    layer.load_state_dict(Attention.from_torch(plain).state_dict())
    torch.testing.assert_close(layer(X), by_torch(module, X), rtol=0, atol=1e-10)


@pytest.mark.messages
def test_what_is_no_module_of_that_kind_is_refused():
    with pytest.raises(
        OptionError, match=r"is a torch.nn.MultiheadAttention; got Linear\n  fix: other layers go"
    ):
        Attention.from_torch(nn.Linear(24, 24))


@pytest.mark.messages
@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            {"mechanism": "causal"},
            r"no mask of its own.*mechanism='causal', causal\n  fix: plain = Attention",
        ),
        (
            {"mechanism": "sink", "mask": masks.full},
            r"no mechanism of its own; .*'sink'\n  fix: only layers of plain",
        ),
        ({"mechanism": "gated_delta"}, r"no mechanism of its own; this layer has mechanism='gated_delta'"),
        (
            {"mechanism": Rule(scale=0.5)},
            r"no scores or weights of its own; .*Rule\(mask=full, scale=0.5\)\n  fix: only",
        ),
        ({"mechanism": "off_by_one", "mask": masks.full}, r"no scores or weights of its own; .*SoftmaxOne"),
        (
            {"mechanism": Rule(positions=Rotary())},
            r"no positions; this layer has Rotary.*\n  fix: only layers",
        ),
        ({"mechanism": "full", "positions": Rotary()}, r"no positions; this layer has Rotary"),
        ({"mechanism": "full", "num_kv_heads": 2}, r"no heads that share keys; .*\n  fix: num_kv_heads=6"),
        ({"mechanism": "full", "head_dim": 8}, r"no head_dim of its own; .*d_model=24\n  fix: head_dim=4"),
    ],
)
def test_a_layer_that_torch_has_not_is_refused(options, text):
    with pytest.raises(OptionError, match=text):
        Attention(24, 6, **options).to_torch()
