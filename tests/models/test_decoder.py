"""A decoder: it never reads the future, caches change nothing, and its tables stay tied."""

import copy
import pickle

import pytest
import torch

from attnkit import Rule, find, masks
from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.models import Config, Decoder
from attnkit.positions import Rotary
from tests.caches.layers import decodes, every_example
from tests.models import tiny

DECODING = [
    pytest.param({"mechanism": name, **options}, id=label)
    for label, name, options in every_example()
    if decodes(name, options)
]
SHAPES = [
    pytest.param({"norm_at": "post"}, id="post"),
    pytest.param(
        {"norm_at": "both", "norm": "rms", "feed_forward": "swiglu", "bias": False}, id="rms-swiglu"
    ),
    pytest.param({"num_layers": 4, "attention": tiny.THREE_WINDOWS, "positions": None}, id="three-windows"),
    pytest.param(
        {"attention": ({"mechanism": "causal", "positions": Rotary()},), "positions": None}, id="rotary"
    ),
    pytest.param({"positions": "sinusoidal", "tied": False}, id="sinusoidal"),
]


def fed(model, tokens, lengths, mask=None):
    """The logits of tokens that come in chunks."""
    caches, logits, stop = model.new_caches(), [], 0
    for part in tokens.split(lengths, 1):
        stop += part.shape[1]
        logits.append(model(part, caches=caches, mask=None if mask is None else mask[:, :stop]))
    return torch.cat(logits, 1)


def check_caches(model):
    tokens = tiny.ids()
    whole = model(tokens)
    for lengths in tiny.CHUNKS:
        torch.testing.assert_close(fed(model, tokens, lengths), whole, rtol=0, atol=1e-9)


@pytest.mark.parametrize("layout", DECODING)
def test_logits_do_not_depend_on_how_tokens_are_cut_into_calls(layout):
    check_caches(tiny.decoder(attention=(layout,)))


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_decoder_works_with_caches(shape):
    check_caches(tiny.decoder(**shape))


@pytest.mark.parametrize("layout", DECODING)
def test_no_logit_changes_with_a_later_token(layout):
    model, tokens = tiny.decoder(attention=(layout,)), tiny.ids(batch=1)
    whole = model(tokens)
    for changed in range(1, tiny.LENGTH):
        other = tokens.clone()
        other[0, changed] = (tokens[0, changed] + 1) % tiny.VOCABULARY
        moved = (model(other) - whole).abs().amax(-1)[0]
        assert moved[:changed].max() < 1e-9
        assert moved[changed] > 1e-9


@pytest.mark.parametrize("shape", SHAPES)
def test_texts_that_are_padded_on_the_left_have_the_logits_that_they_have_alone(shape):
    model, tokens, mask = tiny.decoder(**shape), tiny.ids(), tiny.padding(0, 3)
    padded = model(tokens, mask=mask)
    torch.testing.assert_close(padded[1:, 3:], model(tokens[1:, 3:]), rtol=0, atol=1e-9)
    torch.testing.assert_close(padded[:1], model(tokens[:1]), rtol=0, atol=1e-9)
    for lengths in tiny.CHUNKS:
        found = fed(model, tokens, lengths, mask)
        torch.testing.assert_close(found[mask], padded[mask], rtol=0, atol=1e-9)


def test_right_padding_changes_no_token_before_it():
    model, tokens = tiny.decoder(), tiny.ids()
    mask = tiny.padding(0, 3).flip(-1)
    torch.testing.assert_close(model(tokens, mask=mask)[mask], model(tokens)[mask], rtol=0, atol=1e-9)


def test_a_decoder_is_its_parts_one_after_the_other():
    model, tokens = tiny.decoder(), tiny.ids()
    x = model.embedding.token.weight[tokens] + model.embedding.position.weight[: tiny.LENGTH]
    for block in model.blocks:
        x = block(x)
    torch.testing.assert_close(model(tokens), model.norm(x) @ model.embedding.token.weight.mT)


def test_last_gives_the_last_logits_alone():
    model, tokens = tiny.decoder(), tiny.ids()
    torch.testing.assert_close(model(tokens, last=2), model(tokens)[:, -2:])


def test_logits_are_capped():
    torch.manual_seed(1)
    plain = tiny.decoder()
    capped = tiny.moved(Decoder(tiny.config(), vocabulary_size=11, context_length=16, logit_cap=2.0))
    capped.load_state_dict(plain.state_dict())
    torch.testing.assert_close(capped(tiny.ids()), 2 * torch.tanh(plain(tiny.ids()) / 2))


def test_tied_tables_stay_one_tensor():
    model = tiny.decoder()
    other = tiny.decoder()
    other.load_state_dict(model.state_dict(), assign=True)
    empty = Decoder(tiny.config(), vocabulary_size=11, context_length=16)
    empty.load_state_dict(model.state_dict())
    for one in (model, other, empty, copy.deepcopy(model), pickle.loads(pickle.dumps(model)), model.float()):
        assert one.unembedding.weight is one.embedding.token.weight


def test_untied_tables_are_two():
    model = tiny.decoder(tied=False)
    assert not torch.equal(model.unembedding.weight, model.embedding.token.weight)


def test_names_of_parameters_stay_what_checkpoints_know():
    names = list(tiny.decoder(num_layers=1, feed_forward="swiglu").state_dict())
    linear = ["attention.query", "attention.key", "attention.value", "attention.output"]
    linear += [
        "feed_forward.up",
        "feed_forward.gate",
        "feed_forward.down",
        "norms.attention",
        "norms.feed_forward",
    ]
    inside = [f"blocks.0.{part}.{kind}" for part in linear for kind in ("weight", "bias")]
    around = ["embedding.token.weight", "embedding.position.weight"]
    assert names == [*around, *inside, "norm.weight", "norm.bias", "unembedding.weight"]


def gradients(model, tokens):
    torch.manual_seed(5)
    return torch.autograd.grad(model(tokens).square().sum(), tuple(model.parameters()))


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_checkpointing_changes_no_gradient(dropout):
    # with dropout: what is computed again must drop the same
    model = tiny.decoder(dropout=dropout).train()
    wanted = gradients(model, tiny.ids())
    model.checkpointing = True
    torch.testing.assert_close(gradients(model, tiny.ids()), wanted, rtol=1e-12, atol=1e-12)


def test_checkpointing_keeps_less_for_gradients():
    model, tokens, kept = tiny.decoder(num_layers=4), tiny.ids(), []
    for model.checkpointing in (False, True):
        with torch.autograd.graph.saved_tensors_hooks(lambda t: kept[-1].append(t.numel()) or t, lambda t: t):
            kept.append([])
            model(tokens)
    assert 2 * sum(kept[1]) < sum(kept[0])


def test_checkpointing_leaves_caches_alone():
    model = tiny.decoder()
    model.checkpointing = True
    check_caches(model)


def test_copies_and_pickles_give_the_same():
    model, tokens = tiny.decoder(num_layers=4, attention=tiny.THREE_WINDOWS), tiny.ids()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(tokens), model(tokens))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_errs_as_its_numbers_do(dtype):
    # two layers with sums of 24 numbers: some dozens of roundings of numbers up to the largest logit
    model, tokens = tiny.decoder(), tiny.ids()
    wanted = model(tokens)
    found = copy.deepcopy(model).to(dtype)(tokens)
    assert found.dtype == dtype
    assert (found.double() - wanted).abs().max() < 50 * torch.finfo(dtype).eps * wanted.abs().max()


def test_three_quarters_of_the_layers_may_keep_a_window_alone():
    model = tiny.decoder(num_layers=4, attention=tiny.THREE_WINDOWS, positions=None)
    tokens, caches = tiny.ids(length=15), model.new_caches()
    caches[:3] = [block.attention.new_cache(kind="sliding") for block in list(model.blocks)[:3]]
    logits = torch.cat([model(part, caches=caches) for part in tokens.split([5, 1, 1, 8], 1)], 1)
    torch.testing.assert_close(logits, model(tokens), rtol=0, atol=1e-9)
    assert [cache.tensors()[0].shape[-2] < 15 for cache in caches] == [True] * 3 + [False]


def test_a_pattern_that_is_copied_is_learned():
    # 4 random tokens, then the same 4: what a model without attention cannot know
    torch.manual_seed(0)
    model = Decoder(tiny.config(d_model=32, num_heads=4), vocabulary_size=6, context_length=8)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(400):
        half = torch.randint(6, (32, 4))
        logits = model(torch.cat([half, half], 1)[:, :-1])
        loss = torch.nn.functional.cross_entropy(logits[:, 3:].flatten(0, 1), half.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.05:
            break
    assert loss < 0.1


@pytest.mark.compiled
@pytest.mark.exhaustive
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own, of its compiler
@pytest.mark.filterwarnings("ignore:.*_prims_common.check:FutureWarning")
def test_a_compiled_decoder_gives_the_same():
    model, tokens = tiny.decoder(), tiny.ids()
    compiled = torch.compile(model, fullgraph=True)
    torch.testing.assert_close(compiled(tokens), model(tokens), rtol=0, atol=1e-9)
    found = torch.autograd.grad(compiled(tokens).square().sum(), tuple(model.parameters()))
    wanted = torch.autograd.grad(model(tokens).square().sum(), tuple(model.parameters()))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ({"mechanism": "full"}, "full"),
        ({"mechanism": Rule(mask=~masks.causal)}, "rule"),
        ({"mechanism": "linformer", **find("linformer").examples[0]}, "linformer"),
    ],
)
def test_a_layer_that_reads_the_future_is_refused(layout, name):
    with pytest.raises(
        OptionError, match=rf"Decoder: layer 1, {name}, reads the future(?s:.*)fix: a causal mechanism"
    ):
        Decoder(tiny.config(attention=({"mechanism": "causal"}, layout)), vocabulary_size=5, context_length=4)


@pytest.mark.messages
@pytest.mark.parametrize(
    ("tokens", "kind", "text"),
    [
        (tiny.ids(length=17), ShapeError, r"17 tokens are more than context_length=16"),
        (torch.tensor([[3, 11]]), OptionError, r"token 11 is not in the vocabulary of 11"),
        (torch.rand(2, 3), DtypeError, r"tokens are whole numbers \(batch, len\); got torch.float32"),
    ],
)
def test_tokens_that_are_none_are_refused(tokens, kind, text):
    with pytest.raises(kind, match=text):
        tiny.decoder()(tokens)


@pytest.mark.messages
def test_more_tokens_than_the_model_can_read_are_refused_with_caches_too():
    model, caches = tiny.decoder(), tiny.decoder().new_caches()
    model(tiny.ids(length=15), caches=caches)
    with pytest.raises(ShapeError, match=r"17 tokens are more than context_length=16"):
        model(tiny.ids(length=2), caches=caches)
    assert {cache.length for cache in caches} == {15}


@pytest.mark.messages
@pytest.mark.parametrize("count", [0, 1, 3])
def test_caches_of_another_count_are_refused(count):
    model = tiny.decoder(num_layers=3 if count < 3 else 2)
    with pytest.raises(
        OptionError, match=rf"has a cache of its own; got {count}\n  fix: caches=model.new_caches"
    ):
        model(tiny.ids(), caches=tiny.decoder(num_layers=3).new_caches()[:count])


@pytest.mark.messages
def test_one_cache_for_all_layers_is_refused():
    model = tiny.decoder()
    with pytest.raises(OptionError, match=r"each of 2 layers has a cache of its own; got 1"):
        model(tiny.ids(), caches=model.new_caches()[:1] * 2)


@pytest.mark.messages
def test_a_mask_that_forgets_what_caches_hold_is_refused():
    model = tiny.decoder(positions=None)
    caches = model.new_caches()
    model(tiny.ids(), caches=caches)
    with pytest.raises(
        ShapeError, match=r"mask \(2, 7\) is no \(2, 14\), \(batch, len\), tokens in caches included"
    ):
        model(tiny.ids(), caches=caches, mask=tiny.padding(0, 0))


def test_a_config_makes_models_that_share_nothing():
    made = Config(d_model=24, num_layers=1, num_heads=6)
    one, other = (Decoder(made, vocabulary_size=5, context_length=4) for _ in range(2))
    assert {id(p) for p in one.parameters()}.isdisjoint(id(p) for p in other.parameters())
