"""An encoder: each token reads all others, and padding on either side changes nothing."""

import copy
import pickle

import pytest
import torch

from attnkit import masks
from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.models import Embedding, Encoder
from attnkit.models.parts import sinusoids
from tests.models import tiny


def test_an_encoder_is_its_parts_one_after_the_other():
    model, tokens = tiny.encoder(), tiny.ids()
    x = model.embedding.token.weight[tokens] + model.embedding.position.weight[: tiny.LENGTH]
    for block in model.blocks:
        x = block(x)
    torch.testing.assert_close(model(tokens), model.norm(x))


def test_each_token_reads_each_other():
    model, tokens = tiny.encoder(num_layers=1), tiny.ids(batch=1)
    for changed in range(tiny.LENGTH):
        other = tokens.clone()
        other[0, changed] = (tokens[0, changed] + 1) % tiny.VOCABULARY
        assert ((model(other) - model(tokens)).abs().amax(-1) > 1e-9).all()


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_changes_nothing(side):
    model, tokens = tiny.encoder(), tiny.ids(batch=1)
    keep = slice(3, None) if side == "left" else slice(None, 4)
    mask = torch.zeros(1, tiny.LENGTH, dtype=torch.bool)
    mask[:, keep] = True
    torch.testing.assert_close(model(tokens, mask=mask)[:, keep], model(tokens[:, keep]), rtol=0, atol=1e-9)


def test_any_mask_can_be_given():
    model, tokens = tiny.encoder(num_layers=1), tiny.ids()
    alone = torch.cat([model(tokens[:, :3]), model(tokens)[:, 3:]], 1)
    found = model(tokens, mask=masks.documents([0] * 3 + [1] * 4))
    torch.testing.assert_close(found[:, :3], alone[:, :3])
    assert not torch.allclose(found[:, 3:], alone[:, 3:])


def test_kinds_of_tokens_are_added():
    torch.manual_seed(1)
    made = Encoder(tiny.config(), vocabulary_size=11, context_length=16, kinds=2, norm_embeddings=True)
    model, tokens = tiny.moved(made), tiny.ids()
    assert torch.equal(model(tokens), model(tokens, kinds=torch.zeros_like(tokens)))
    x = model.norm_embeddings(model.embedding(tokens) + model.kind.weight[1])
    for block in model.blocks:
        x = block(x)
    torch.testing.assert_close(model(tokens, kinds=torch.ones_like(tokens)), model.norm(x))


def test_checkpointing_changes_no_gradient():
    model, tokens = tiny.encoder(), tiny.ids()
    wanted = torch.autograd.grad(model(tokens).square().sum(), tuple(model.parameters()))
    model.checkpointing = True
    found = torch.autograd.grad(model(tokens).square().sum(), tuple(model.parameters()))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_copies_and_pickles_give_the_same():
    model, tokens = tiny.encoder(), tiny.ids()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(tokens), model(tokens))


def test_waves_are_those_of_the_paper():
    # PE(pos, 2i) = sin(pos / 10000^(2i / d)), PE(pos, 2i + 1) = cos of the same; d = 4, pos = 3
    wanted = torch.tensor([3.0, 3.0, 0.03, 0.03], dtype=torch.float64)
    wanted = torch.stack([wanted[0].sin(), wanted[1].cos(), wanted[2].sin(), wanted[3].cos()]).float()
    torch.testing.assert_close(sinusoids(5, 4)[3], wanted)
    assert sinusoids(5, 3).shape == (5, 3)


def test_waves_are_no_parameter_and_in_no_state_dict():
    layer = Embedding(5, 4, context_length=6, positions="sinusoidal")
    assert list(layer.state_dict()) == ["token.weight"]
    torch.testing.assert_close(
        layer(torch.tensor([[1, 1]]), start=2) - layer.token.weight[1], sinusoids(6, 4)[None, 2:4]
    )


def test_vectors_of_tokens_are_scaled_before_positions_are_added():
    layer = Embedding(5, 4, context_length=6, scale=3.0)
    wanted = 3 * layer.token.weight[[1, 4]] + layer.position.weight[:2]
    torch.testing.assert_close(layer(torch.tensor([[1, 4]])), wanted[None])


@pytest.mark.messages
@pytest.mark.parametrize(
    ("tokens", "kind", "text"),
    [
        (
            torch.rand(2, 3),
            DtypeError,
            r"tokens are whole numbers \(batch, len\); got torch.float32\n  fix: torch.t",
        ),
        ([[1, 2]], DtypeError, r"tokens are whole numbers \(batch, len\); got list"),
        (
            torch.tensor([1, 2]),
            ShapeError,
            r"tokens have shape \(2,\); it is \(batch, len\)\n  fix: tokens\[None\]",
        ),
        (
            tiny.ids(length=17),
            ShapeError,
            r"17 tokens are more than context_length=16\n  fix: .* last 16 .*:, -16:",
        ),
        (
            torch.tensor([[3, 11]]),
            OptionError,
            r"token 11 is not in the vocabulary of 11\n.*vocabulary_size=12",
        ),
        (
            torch.tensor([[3, -1]]),
            OptionError,
            r"token -1 is not in the vocabulary of 11\n  fix: use the tokenizer of this model$",
        ),
    ],
)
def test_tokens_that_are_none_are_refused(tokens, kind, text):
    with pytest.raises(kind, match=text):
        tiny.encoder()(tokens)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("mask", "kind", "text"),
    [
        (torch.ones(2, 6).bool(), ShapeError, r"mask \(2, 6\) is no \(2, 7\), \(batch, len\)(?s:.*)one bool"),
        (
            torch.ones(2, 7),
            DtypeError,
            r"mask is bool, True .* token; got torch.float32\n  fix: mask.bool",
        ),
    ],
)
def test_a_mask_for_other_tokens_is_refused(mask, kind, text):
    with pytest.raises(kind, match=text):
        tiny.encoder()(tiny.ids(), mask=mask)
