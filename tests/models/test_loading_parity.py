"""Real weights: our models compute what transformers computes, on random sizes of every kind that `load` knows."""

import contextlib
import copy
import json
import random

import pytest
import safetensors.torch as safetensors
import torch

from attnkit.errors import AttentionError, ShapeError
from attnkit.models import generate
from attnkit.models.loading import FAMILIES as KNOWN
from attnkit.models.loading import load
from tests.models.checkpoints import STRANGE
from tests.models.families import DECODERS, FAMILIES, IMAGES, LENGTH, SEEDS, VOCABULARY, pair

pytest.importorskip("transformers")

BOUND = 1e-5  # of the largest number, in float32
EXACT = (
    "gpt2",
    "bert",
    "bert, masked",
    "albert",
    "dinov2",
)  # transformers computes no part of these in float32
pytestmark = [
    pytest.mark.parametrize("seed", SEEDS),
]


def tokens(seed, batch=3, length=LENGTH):
    return torch.randint(0, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def padded_left(seed, batch=3, length=LENGTH):
    """Where there is a token: texts of other lengths, the first without padding."""
    draw = random.Random(seed)
    starts = torch.tensor([0] + [draw.randrange(1, length - 2) for _ in range(batch - 1)])
    return torch.arange(length) >= starts[:, None]


def chunks(seed, length=LENGTH):
    """Random lengths that sum to it, a single token among them."""
    draw, sizes = random.Random(seed), [1]
    while sum(sizes) < length:
        sizes.append(min(draw.choice([1, 2, 5, 7]), length - sum(sizes)))
    draw.shuffle(sizes)
    return sizes


def logits_of(theirs, ids, mask):
    places = (mask.long().cumsum(-1) - 1).clamp(min=0)
    return theirs(input_ids=ids, attention_mask=mask.long(), position_ids=places, use_cache=False).logits


def agree(ours, wanted, bound=BOUND, keep=None):
    """Every number within `bound` of the largest."""
    if keep is not None:  # what stands at padding means nothing
        ours, wanted = ours.where(keep[..., None], 0), wanted.where(keep[..., None], 0)
    assert wanted.abs().max() > 0.1
    assert ours.shape == wanted.shape
    assert (ours - wanted).abs().max() <= bound * wanted.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_logits_are_theirs_with_padding_on_the_left(name, seed):
    theirs, ours = pair(name, seed)
    ids, mask = tokens(seed), padded_left(seed)
    agree(ours(ids, mask=mask), logits_of(theirs, ids, mask), keep=mask)


@torch.no_grad()
@pytest.mark.parametrize("name", DECODERS)
def test_logits_in_chunks_with_caches_are_theirs_in_one_pass(name, seed):
    theirs, ours = pair(name, seed)
    ids, mask, caches = tokens(seed), padded_left(seed), ours.new_caches()
    steps, seen = [], 0
    for part in ids.split(chunks(seed), 1):
        seen += part.shape[1]
        steps.append(ours(part, mask=mask[:, :seen], caches=caches))
    agree(torch.cat(steps, 1), logits_of(theirs, ids, mask), keep=mask)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["static", "sliding"])
def test_other_caches_of_mistral_give_their_logits_too(kind, seed):
    theirs, ours = pair("mistral", seed)
    if kind == "sliding" and theirs.config.sliding_window is None:
        pytest.skip("this one has no window")
    ids, every = tokens(seed), torch.ones(3, LENGTH, dtype=torch.bool)
    caches = ours.new_caches(kind, **({"max_tokens": LENGTH} if kind == "static" else {}))
    steps = [ours(part, caches=caches) for part in ids.split(chunks(seed), 1)]
    agree(torch.cat(steps, 1), logits_of(theirs, ids, every))


@torch.no_grad()
@pytest.mark.parametrize("name", ["gpt2", "llama", "gemma2", "deepseek"])
def test_greedy_texts_are_theirs(name, seed):
    theirs, ours = pair(name, seed)
    ids, mask = tokens(seed, length=6), padded_left(seed, length=6)
    # no token ends the text, and theirs would warn that it was not told which one pads
    told = {"do_sample": False, "max_new_tokens": 8, "eos_token_id": None, "pad_token_id": 0}
    wanted = theirs.generate(ids, attention_mask=mask.long(), **told)
    assert generate(ours, ids, mask=mask, max_new_tokens=8).tolist() == wanted.tolist()


@torch.no_grad()
@pytest.mark.parametrize("name", ["bert", "bert, masked", "albert"])
def test_vectors_of_an_encoder_are_theirs(name, seed):
    theirs, ours = pair(name, seed)
    inner = getattr(theirs, "bert", theirs)
    ids, mask = tokens(seed), padded_left(seed).flip(-1)
    kinds = ids % 2
    wanted = inner(input_ids=ids, attention_mask=mask.long(), token_type_ids=kinds).last_hidden_state
    agree(ours(ids, mask=mask, kinds=kinds), wanted, keep=mask)


def images(ours, seed, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, ours.channels, 16, 16, generator=generator, dtype=dtype)


@torch.no_grad()
@pytest.mark.parametrize("name", IMAGES)
def test_what_is_seen_in_an_image_is_theirs(name, seed):
    theirs, ours = pair(name, seed)
    pixels = images(ours, seed)
    found = theirs(pixel_values=pixels)
    if name == "vit, classes":
        agree(ours(pixels), found.logits)
    else:
        agree(ours.tokens(pixels), found.last_hidden_state)


@torch.no_grad()
def test_logits_of_t5_are_theirs_at_once_and_in_chunks_with_caches(seed):
    theirs, ours = pair("t5", seed)
    source, mask, ids = tokens(seed + 9, length=11), padded_left(seed, length=11).flip(-1), tokens(seed)
    wanted = theirs(input_ids=source, attention_mask=mask.long(), decoder_input_ids=ids).logits
    agree(ours(source, ids, source_mask=mask), wanted)
    memory, caches = ours.encoder(source, mask=mask), ours.new_caches()
    steps = [
        ours.decode(part, memory, memory_mask=mask, caches=caches) for part in ids.split(chunks(seed), 1)
    ]
    agree(torch.cat(steps, 1), wanted)


@torch.no_grad()
@pytest.mark.parametrize(
    "table", ["encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight"]
)
def test_a_table_of_t5_that_is_another_stays_another(table, seed, tmp_path):
    pair("t5", seed)[0].save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = safetensors.load_file(path)
    # the head is the decoder's table where the file has no other, as in our settings; theirs takes the shared one
    others = {"lm_head.weight": whole["shared.weight"] * 0.5} if table.startswith("decoder") else {}
    safetensors.save_file(whole | others | {table: whole["shared.weight"].flip(0).contiguous()}, path)
    # in float64: in float32, theirs with such weights is 3e-5 from what it is in float64, and ours 2e-5
    theirs = pair("t5", seed)[0].from_pretrained(tmp_path, attn_implementation="eager").eval().double()
    ours, source, ids = load(tmp_path, dtype=torch.float64), tokens(seed + 9, length=11), tokens(seed)
    agree(ours(source, ids), theirs(input_ids=source, decoder_input_ids=ids).logits)
    assert not torch.allclose(ours(source, ids).float(), pair("t5", seed)[1](source, ids), atol=0.1)


@torch.no_grad()
@pytest.mark.parametrize("name", EXACT)
def test_in_float64_nothing_but_rounding_is_left(name, seed):
    theirs, ours = pair(name, seed, torch.float64)
    theirs = copy.deepcopy(getattr(theirs, "bert", theirs)).double()
    if name == "dinov2":
        pixels = images(ours, seed, torch.float64)
        # its factors are multiplied into the weights, in float32 as they are saved
        return agree(ours.tokens(pixels), theirs(pixel_values=pixels).last_hidden_state, 1e-6)
    ids = tokens(seed)
    found = theirs(input_ids=ids)
    return agree(ours(ids), found.logits if name == "gpt2" else found.last_hidden_state, 1e-12)


@torch.no_grad()
@pytest.mark.parametrize("name", ["gemma2", "deepseek"])
def test_what_is_reckoned_from_a_file_of_bfloat16_is_reckoned_in_float32(name, seed, tmp_path):
    # Gemma's norms are one more than what is stored: 1 + 0.004 is 1 in bfloat16
    theirs = copy.deepcopy(pair(name, seed)[0])
    theirs.to(torch.bfloat16).save_pretrained(tmp_path)
    ids, every = tokens(seed), torch.ones(3, LENGTH, dtype=torch.bool)
    anew = type(theirs).from_pretrained(tmp_path, dtype=torch.float32, attn_implementation="eager").eval()
    agree(load(tmp_path)(ids), logits_of(anew, ids, every))


@pytest.mark.messages
@pytest.mark.parametrize("name", FAMILIES)
def test_a_setting_of_any_other_value_is_loaded_or_refused_kindly(name, seed, tmp_path):
    pair(name, seed)[0].save_pretrained(tmp_path)
    config, draw = json.loads((tmp_path / "config.json").read_text()), random.Random(seed)
    for setting in draw.sample(sorted(set(config) - {"model_type"}), 5):
        (tmp_path / "config.json").write_text(json.dumps(config | {setting: draw.choice(STRANGE)}))
        with contextlib.suppress(AttentionError):
            assert isinstance(load(tmp_path), torch.nn.Module)


@pytest.mark.messages
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("change", ["missing", "longer", "flat"])
def test_any_tensor_that_is_missing_or_of_another_shape_is_named(change, name, seed, tmp_path):
    pair(name, seed)[0].save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = safetensors.load_file(path)
    read = [tensor for tensor in whole if not tensor.startswith(("pooler.", "cls."))]
    for tensor in random.Random(seed).sample(read, min(len(read), 3)):
        others = {other: t.clone() for other, t in whole.items() if other != tensor}
        if change == "longer":
            others[tensor] = torch.cat([whole[tensor], whole[tensor][:1]])
        elif change == "flat":
            others[tensor] = whole[tensor].flatten()[None, None, None]
        safetensors.save_file(others, path)
        if tensor in ("lm_head.weight", "classifier.weight") and change == "missing":
            continue  # tied then; or a model without classes
        with pytest.raises(ShapeError) as caught:
            load(tmp_path)
        assert repr(tensor) in str(caught.value)


@pytest.mark.parametrize("name", FAMILIES)
def test_each_parameter_has_memory_of_its_own_and_can_be_saved(name, seed):
    found = list(pair(name, seed)[1].parameters())
    assert len({parameter.data_ptr() for parameter in found}) == len(found)
    assert all(p.is_contiguous() and p.untyped_storage().nbytes() == p.nbytes for p in found)


def test_every_kind_that_load_knows_is_compared(seed):
    assert {pair(name, seed)[0].config.model_type for name in FAMILIES} == set(KNOWN)
