"""What a model is made of, and what it cannot be made of."""

import pickle

import pytest
import torch
from torch import nn

from attnkit.errors import OptionError, UnknownNameError
from attnkit.models import Encoder, FeedForward, VisionTransformer
from attnkit.models.block import each
from tests.models import tiny


def test_layouts_are_taken_in_turn():
    model = tiny.decoder(num_layers=6, attention=tiny.THREE_WINDOWS)
    names = [block.attention.mechanism.name for block in each(model.blocks)]
    assert names == ["sliding_window"] * 3 + ["causal"] + ["sliding_window"] * 2


def test_without_a_layout_decoders_hide_the_future_and_encoders_read_all():
    images = VisionTransformer(tiny.config(), image_size=8, patch_size=4)
    found = [
        next(iter(each(m.blocks))).attention.mechanism.name for m in (tiny.decoder(), tiny.encoder(), images)
    ]
    assert found == ["causal", "full", "full"]


def test_a_layout_says_more_than_the_config():
    attention = tiny.config(dropout=0.1, attention=({"mechanism": "causal", "dropout": 0.3, "bias": False},))
    layer = attention.attention_of(0, "full")
    assert (layer.dropout, layer.output.bias) == (0.3, None)


def test_a_config_can_be_pickled():
    made = tiny.config(attention=tiny.THREE_WINDOWS, norm="rms")
    assert pickle.loads(pickle.dumps(made)) == made


@pytest.mark.parametrize(
    ("kind", "bend"),
    [
        ("gelu", nn.GELU()),
        ("gelu_tanh", nn.GELU(approximate="tanh")),
        ("relu", nn.ReLU()),
        ("swiglu", nn.SiLU()),
        ("geglu", nn.GELU(approximate="tanh")),
    ],
)
def test_a_feed_forward_layer_is_its_formula(kind, bend):
    layer, x = FeedForward(5, 7, kind, bias=True), 3 * torch.randn(2, 3, 5)
    inside = bend(layer.up(x)) if layer.gate is None else bend(layer.gate(x)) * layer.up(x)
    assert (layer.gate is not None) == (kind in ("swiglu", "geglu"))
    torch.testing.assert_close(layer(x), layer.down(inside))


def test_norms_have_their_kind_and_epsilon():
    model = tiny.decoder(norm="rms", norm_eps=1e-3)
    assert isinstance(model.norm, nn.RMSNorm)
    assert {norm.eps for norm in model.modules() if isinstance(norm, nn.RMSNorm)} == {1e-3}


def test_a_norm_follows_the_blocks_where_blocks_do_not_end_with_one():
    kinds = {at: type(tiny.decoder(norm_at=at).norm) for at in ("pre", "post", "both")}
    assert kinds == {"pre": nn.LayerNorm, "post": nn.Identity, "both": nn.LayerNorm}


@pytest.mark.messages
@pytest.mark.parametrize(
    ("given", "kind", "text"),
    [
        ({"d_model": 0}, OptionError, r"Config: d_model is 1, 2, 3, ...; got 0\n  fix: d_model=64"),
        ({"num_layers": True}, OptionError, r"num_layers is 1, 2, 3, ...; got True"),
        ({"num_heads": 2.0}, OptionError, r"num_heads is 1, 2, 3, ...; got 2.0"),
        ({"hidden": -1}, OptionError, r"hidden is 1, 2, 3, ...; got -1"),
        (
            {"feed_forward": "swigly"},
            UnknownNameError,
            r"no feed_forward 'swigly'\n  fix: did you mean 'swiglu'",
        ),
        ({"norm": "batch"}, UnknownNameError, r"no norm 'batch'\n  fix: one of layer, rms"),
        ({"norm_at": "Pre"}, UnknownNameError, r"no norm_at 'Pre'\n  fix: did you mean 'pre'"),
        (
            {"attention": {"mechanism": "causal"}},
            OptionError,
            r"a layout or several.*\n  fix: attention=.*comma",
        ),
        ({"attention": ("causal",)}, OptionError, r"each with its mechanism; got \('causal',\)"),
        ({"attention": ()}, OptionError, r"each with its mechanism; got \(\)"),
        ({"dropout": 2.0}, OptionError, r"Config: dropout is the share .* got 2.0"),
    ],
)
def test_what_no_model_is_made_of_is_refused(given, kind, text):
    with pytest.raises(kind, match=text):
        tiny.config(**given)


@pytest.mark.messages
def test_an_unknown_kind_of_positions_is_refused():
    with pytest.raises(
        UnknownNameError, match=r"no kind of positions 'rotary'(?s:.*)one of learned, sinusoidal"
    ):
        Encoder(tiny.config(), vocabulary_size=5, context_length=4, positions="rotary")


@pytest.mark.messages
def test_an_empty_vocabulary_is_refused():
    with pytest.raises(OptionError, match=r"Embedding: vocabulary_size is 1, 2, 3, ...; got 0"):
        Encoder(tiny.config(), vocabulary_size=0, context_length=4)
