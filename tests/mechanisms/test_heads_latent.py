"""Latent attention: the paper's equations, its two forms, and what a cache holds."""

import math

import pytest
import torch

from attnkit import masks
from attnkit.errors import OptionError, ShapeError
from attnkit.mechanism import Sizes, learned, projections
from attnkit.mechanisms import latent as module
from attnkit.mechanisms.latent import MECHANISM
from attnkit.positions import Rotary
from tests.oracles import heads_equations

HEADS, HEAD_DIM, ROPE_DIM, KV_RANK = 3, 6, 4, 5


def inputs(*, q_len=5, kv_len=7, dtype=torch.float64, grad=False):
    """Query, rotary key and latent, and what makes keys and values: peaked, of 2 samples."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "query": (2, HEADS, q_len, HEAD_DIM + ROPE_DIM),
        "key": (2, 1, kv_len, ROPE_DIM),
        "value": (2, 1, kv_len, KV_RANK),
        "key_up": (HEADS, KV_RANK, HEAD_DIM),
        "value_up": (HEADS, KV_RANK, HEAD_DIM),
    }
    drawn = {name: torch.randn(s, generator=generator, dtype=torch.float64) for name, s in shapes.items()}
    factors = {"query": 2.0, "key": 2.0}
    return {name: (factors.get(name, 1) * t).to(dtype).requires_grad_(grad) for name, t in drawn.items()}


def attended(tensors, **options):
    """The mechanism on tensors by name."""
    main = [tensors[name] for name in ("query", "key", "value")]
    return MECHANISM(*main, parts={name: tensors[name] for name in ("key_up", "value_up")}, **options)


@pytest.mark.parametrize("absorbed", [False, True, None])
def test_it_is_what_the_equations_give(absorbed):
    tensors = inputs()
    expected = heads_equations.latent(**tensors)
    torch.testing.assert_close(attended(tensors, absorbed=absorbed), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 70), (40, 70), (70, 70)])
def test_both_forms_are_one_in_gradients_too(q_len, kv_len):
    found = []
    for absorbed in (False, True):
        tensors = inputs(q_len=q_len, kv_len=kv_len, grad=True)
        context = attended(tensors, absorbed=absorbed)
        probe = torch.randn(context.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        (context * probe).sum().backward()
        found.append({"context": context.detach()} | {name: t.grad for name, t in tensors.items()})
    for name, plain in found[0].items():
        torch.testing.assert_close(found[1][name], plain, rtol=0, atol=1e-10)


@pytest.mark.parametrize("absorbed", [False, True])
@pytest.mark.parametrize(
    "mask", [masks.full, masks.causal & masks.window(3), masks.lengths([7, 4])], ids=repr
)
def test_both_forms_hide_what_a_mask_hides(mask, absorbed):
    bound = MECHANISM.bind({"mask": mask, "absorbed": absorbed})
    tensors, sizes = inputs(), Sizes(HEADS, 1, HEAD_DIM, 18)
    ready = bound.prepared(tensors, sizes, q_start=2)
    context = bound.attended(ready, sizes, mask=None, q_start=2)
    weights = bound.weighed(ready, sizes, mask=None, q_start=2)
    keep = mask.dense(5, 7).expand(2, 5, 7).unsqueeze(1)
    assert torch.equal(weights > 0, keep.expand(2, HEADS, 5, 7))
    expected = weights @ (ready["value"] @ tensors["value_up"])
    torch.testing.assert_close(context, expected, rtol=0, atol=1e-12)


def test_one_head_by_hand():
    # head_dim 2, kv_rank 2, rope_dim 2, one query at position 0 that reads one earlier key of equal score and itself.
    # latents (3, 0) and (0, 5) have norm sqrt(2) after RMSNorm: (sqrt 2, 0) and (0, sqrt 2); value_up doubles.
    # the query is 0, so both keys weigh 1/2: the context is (sqrt 2, sqrt 2)
    value = torch.tensor([[[[3.0, 0.0], [0.0, 5.0]]]], dtype=torch.float64)
    tensors = {
        "query": torch.zeros(1, 1, 1, 4, dtype=torch.float64),
        "key": torch.ones(1, 1, 2, 2, dtype=torch.float64),
        "value": value,
        "key_up": torch.ones(1, 2, 2, dtype=torch.float64),
        "value_up": 2 * torch.eye(2, dtype=torch.float64)[None],
    }
    expected = torch.full((1, 1, 1, 2), math.sqrt(2), dtype=torch.float64)
    torch.testing.assert_close(
        attended(tensors), expected, rtol=0, atol=1e-5
    )  # the norm adds 1e-6 below the root


def test_scores_are_scaled_by_the_width_of_content_and_rotary_together():
    # one number of the content and its key: 4 * (sqrt 2 * 1) / sqrt(2 + 2) = 2 sqrt 2, against a key of latent 0
    tensors = {
        "query": torch.tensor([4.0, 0.0, 0.0, 0.0], dtype=torch.float64)[None, None, None],
        "key": torch.zeros(1, 1, 2, 2, dtype=torch.float64),
        "value": torch.tensor([[0.0, 0.0], [7.0, 0.0]], dtype=torch.float64)[None, None],
        "key_up": torch.eye(2, dtype=torch.float64)[None],
        "value_up": torch.eye(2, dtype=torch.float64)[None],
    }
    main = [tensors[name] for name in ("query", "key")]
    weights = MECHANISM.weights(*main, value=tensors["value"], parts={"key_up": tensors["key_up"]})
    ratio = (weights[..., 1] / weights[..., 0]).log().item()
    assert ratio == pytest.approx(2 * math.sqrt(2), abs=1e-5)


def test_a_cache_holds_the_latent_and_the_rotary_key_of_no_head():
    sizes, options = Sizes(128, 128, 128, 5120), {"kv_rank": None, "rope_dim": None}
    held = [part for part in projections(MECHANISM.parts) if part.of == "key"]
    numbers = sum(sizes.of(part.heads, options) * sizes.of(part.width, options) for part in held)
    # DeepSeek-V2, section 2.1.4: (4 + 1/2) head_dim a token, where multi-head attention holds 2 * 128 head_dim
    assert numbers == 4.5 * 128


def test_the_query_of_a_layer_has_content_and_rotary_numbers():
    parts = {part.name: part for part in projections(MECHANISM.parts)}
    options = {"kv_rank": 5, "rope_dim": 2}
    assert Sizes(6, 3, 4, 24).of(parts["query"].width, options) == 4 + 2
    shapes = {part.name: part.sizes(Sizes(6, 3, 4, 24), options) for part in learned(MECHANISM.parts)}
    assert shapes == {"key_up": (6, 5, 4), "value_up": (6, 5, 4)}


def test_what_a_cache_holds_decodes_as_all_at_once():
    tensors, sizes = inputs(q_len=7), Sizes(HEADS, 1, HEAD_DIM, 18)
    whole, bound = attended(tensors, absorbed=False), MECHANISM.bind({})
    held, contexts = {"key": [], "value": []}, []
    for step in range(7):
        new = {name: t[..., step : step + 1, :] for name, t in tensors.items() if not name.endswith("_up")}
        ready = tensors | bound.prepared(tensors | new, sizes, q_start=step, kv_start=step)
        for name, past in held.items():
            past.append(ready[name])
            ready[name] = torch.cat(past, -2)
        contexts.append(bound.attended(ready, sizes, mask=None, q_start=step))
    torch.testing.assert_close(torch.cat(contexts, -2), whole, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("q_len", "absorbing"), [(1, True), (167, True), (168, False), (8000, False)], ids=str
)
def test_a_step_of_decoding_absorbs_and_a_long_text_does_not(q_len, absorbing):
    # DeepSeek's sizes, 8192 keys, products of one head. Plain: 8192 * 2 * 512 * 128 + q * 8192 * (256 + 64).
    # Absorbed: q * 2 * 512 * 128 + q * 8192 * (1024 + 64). Equal at q = 8192 * 131072 / (131072 + 8192 * 768) = 167.2
    shapes = (128, q_len, 192), (1, 8192, 64), (1, 8192, 512)
    query, key, value = (torch.empty(1, *shape, device="meta") for shape in shapes)
    assert module._absorbing_is_cheaper(query, key, value, 128) == absorbing


def test_without_turning_positions_do_not_matter():
    tensors = inputs()
    order = torch.tensor([3, 0, 6, 5, 1, 4, 2])
    mixed = tensors | {name: tensors[name][..., order, :] for name in ("key", "value")}
    bound, sizes = MECHANISM.bind({"rotary": None, "mask": masks.full}), Sizes(HEADS, 1, HEAD_DIM, 18)
    contexts = [
        bound.attended(bound.prepared(given, sizes, q_start=2), sizes, mask=None, q_start=2)
        for given in (tensors, mixed)
    ]
    torch.testing.assert_close(*contexts, rtol=0, atol=1e-12)


def test_another_rotary_turns_otherwise():
    tensors = inputs()
    assert not torch.allclose(attended(tensors), attended(tensors, rotary=Rotary(layout="halves")))


def test_dropout_of_everything_leaves_nothing_in_either_form():
    tensors = inputs()
    for absorbed in (False, True):
        context = module.latent(**tensors, q_start=2, absorbed=absorbed, mask=masks.causal, dropout=1.0)
        assert torch.equal(context, torch.zeros_like(context))


@pytest.mark.messages
@pytest.mark.parametrize(
    ("option", "given"), [("kv_rank", 0), ("kv_rank", 2.0), ("rope_dim", 3), ("rope_dim", 0)]
)
def test_a_width_that_means_nothing_is_refused(option, given):
    parts = {"kv_rank": "value", "rope_dim": "key"}
    (part,) = (part for part in projections(MECHANISM.parts) if part.name == parts[option])
    with pytest.raises(OptionError, match=rf"{option} (is|counts)(?s:.*); got {given}(?s:.*)fix: "):
        Sizes(6, 3, 4, 24).of(part.width, {"kv_rank": None, "rope_dim": None} | {option: given})


@pytest.mark.messages
def test_a_latent_of_several_heads_is_refused():
    tensors = inputs()
    with pytest.raises(ShapeError, match=r"value has one head, of 5 numbers(?s:.*)value is the latent"):
        attended(tensors | {"value": tensors["value"].expand(-1, 3, -1, -1)})


@pytest.mark.messages
def test_a_latent_of_another_width_than_said_is_refused():
    with pytest.raises(ShapeError, match=r"value has one head, of 8 numbers; got \(2, 1, 7, 5\)"):
        attended(inputs(), kv_rank=8)


@pytest.mark.messages
def test_a_query_without_content_is_refused():
    tensors = inputs()
    with pytest.raises(ShapeError, match=r"head_dim \+ rope_dim numbers, here more than 4(?s:.*)turns last"):
        attended(tensors | {"query": tensors["query"][..., :4]})


@pytest.mark.messages
def test_a_rotary_that_is_a_word_is_refused():
    with pytest.raises(
        OptionError, match=r"rotary is one of attnkit.positions; got 'pairs'(?s:.*)rotary=None turns"
    ):
        attended(inputs(), rotary="pairs")
