"""Registering: a rule stands in both registries of transformers, and models compute what they computed before."""

import pytest
import torch

from attnkit import Rule, find, masks, normalizers, scores
from attnkit.errors import OptionError, UnknownNameError
from attnkit.hf import register
from attnkit.hf.attending import attention_of
from tests.hf.models import (
    DECODERS,
    READERS,
    by_rule,
    padded_left,
    theirs,
    tokens,
    transformers,
    within,
)

GREEDY = {"max_new_tokens": 9, "min_new_tokens": 9, "do_sample": False, "pad_token_id": 0}


def gradients(model, **inputs):
    model.zero_grad()
    model(**inputs).logits[:, -1].square().sum().backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def learn_alike(found, wanted):
    """Every gradient within 1e-4 of the largest of its tensor, or of a thousandth of the largest of all."""
    assert found.keys() == wanted.keys()
    largest = max(gradient.abs().max() for gradient in wanted.values())
    for name, gradient in wanted.items():
        allowed = 1e-4 * torch.maximum(gradient.abs().max(), 1e-3 * largest)
        assert (found[name] - gradient).abs().max() <= allowed, name


@pytest.mark.parametrize("kind", DECODERS)
class TestDecoders:
    def test_compute_what_they_computed(self, kind):
        model = theirs(kind)
        ours, ids = by_rule(model), tokens()
        with torch.no_grad():
            within(ours(ids).logits, model(ids).logits)

    def test_compute_what_they_computed_of_texts_that_are_padded(self, kind):
        model = theirs(kind)
        ours, ids, mask = by_rule(model), tokens(), padded_left()
        with torch.no_grad():
            found, wanted = (one(ids, attention_mask=mask).logits for one in (ours, model))
        within(found[mask.bool()], wanted[mask.bool()])
        assert found.isfinite().all()

    def test_learn_what_they_learned(self, kind):
        model = theirs(kind)
        inputs = {"input_ids": tokens(), "attention_mask": padded_left()}
        learn_alike(gradients(by_rule(model), **inputs), gradients(model, **inputs))

    @pytest.mark.parametrize("cache", ["dynamic", "static"])
    def test_write_what_they_wrote(self, kind, cache):
        model = theirs(kind)
        told = {"attention_mask": padded_left(), "cache_implementation": cache} | GREEDY
        assert torch.equal(by_rule(model).generate(tokens(), **told), model.generate(tokens(), **told))

    def test_write_what_they_wrote_with_beams(self, kind):
        model = theirs(kind)
        told = {"attention_mask": padded_left(), "num_beams": 3} | GREEDY
        assert torch.equal(by_rule(model).generate(tokens(), **told), model.generate(tokens(), **told))

    def test_give_their_weights(self, kind):
        model, ids, mask = theirs(kind), tokens(), padded_left()
        with torch.no_grad():
            found, wanted = (
                one(ids, attention_mask=mask, output_attentions=True).attentions
                for one in (by_rule(model), model)
            )
        assert len(found) == len(wanted) == 3  # layers
        tokens_only = mask.bool()[:, None, :].expand(-1, 4, -1)  # a query that is padding reads nothing here
        for ours, its in zip(found, wanted, strict=True):
            torch.testing.assert_close(ours[tokens_only], its[tokens_only], rtol=0, atol=1e-5)

    def test_read_no_later_token_whatever_the_rule(self, kind):
        model, ids = theirs(kind), tokens()
        later = ids.clone()
        later[:, 6:] = (later[:, 6:] + 1) % 40
        both_sides = masks.first(2) | masks.where(lambda q, k: (k - q).abs() < 3)
        for rule in (None, Rule(mask=masks.full), "full", Rule(mask=masks.window(3)), Rule(mask=both_sides)):
            ours = by_rule(model, rule, "anything")
            with torch.no_grad():
                within(ours(later).logits[:, :6], ours(ids).logits[:, :6])
                assert not torch.allclose(ours(later).logits[:, 6:], ours(ids).logits[:, 6:])


def test_encoders_compute_what_they_computed():
    model, ids = theirs("bert"), tokens()
    mask = padded_left().flip(1)
    with torch.no_grad():
        for told in ({}, {"attention_mask": mask}):
            found, wanted = (one(ids, **told).last_hidden_state for one in (by_rule(model), model))
            keep = told.get("attention_mask", torch.ones_like(ids)).bool()
            within(found[keep], wanted[keep])


def test_a_vision_transformer_computes_what_it_computed():
    model, images = theirs("vit"), torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        within(by_rule(model)(images).last_hidden_state, model(images).last_hidden_state)


@pytest.mark.parametrize("kind", READERS)
def test_models_that_read_another_text_write_what_they_wrote(kind):
    model, ids, mask = theirs(kind), tokens(), padded_left().flip(1)
    ours, target = by_rule(model), tokens(length=5, seed=1)
    inputs = {"input_ids": ids, "attention_mask": mask, "decoder_input_ids": target}
    with torch.no_grad():
        within(ours(**inputs).logits, model(**inputs).logits)
        assert len(ours(**inputs, output_attentions=True).cross_attentions) == 2
    told = {"attention_mask": mask} | GREEDY
    assert torch.equal(ours.generate(ids, **told), model.generate(ids, **told))
    learn_alike(gradients(ours, **inputs), gradients(model, **inputs))


LENGTH = 11


def written_out(mask, length, padding=None):
    """The 4-D mask of floats that makes eager attention keep what `mask` keeps."""
    keep = mask.dense(length, length).expand(len(padding) if padding is not None else 1, length, length)
    if padding is not None:
        keep = keep & padding.bool()[:, None, :]
    hidden = torch.finfo(torch.float32).min
    return torch.zeros(keep.shape).masked_fill(~keep, hidden)[:, None]


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3"])
@pytest.mark.parametrize(
    "mask",
    [masks.window(3), masks.window(4) | masks.first(2), masks.strided(3), masks.blocks(4)],
    ids=repr,
)
def test_another_mask_is_what_eager_attention_computes_with_it_written_out(kind, mask):
    model, ids = theirs(kind), tokens()
    ours = by_rule(model, Rule(mask=mask), "other")
    with torch.no_grad():
        within(ours(ids).logits, model(ids, attention_mask=written_out(masks.causal & mask, LENGTH)).logits)


@pytest.mark.parametrize("kind", ["llama", "gpt2"])
@pytest.mark.parametrize(
    "mask", [masks.window(3), masks.window(4) | masks.first(2), masks.blocks(4)], ids=repr
)
@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_text_that_is_padded_is_written_as_it_is_written_alone(kind, mask, cache):
    ours, ids = by_rule(theirs(kind), Rule(mask=mask), "other"), tokens()
    told = {"cache_implementation": cache} | GREEDY
    together = ours.generate(ids, attention_mask=padded_left(), **told)
    for text, start in enumerate((0, 4, 1)):
        alone = ours.generate(ids[text : text + 1, start:], **told)
        assert torch.equal(together[text : text + 1, start:], alone)


def test_writing_token_by_token_is_reading_all_at_once():
    ours, ids = by_rule(theirs("mistral"), Rule(mask=masks.first(5) | masks.window(2)), "other"), tokens()
    text = ours.generate(ids, attention_mask=torch.ones_like(ids), **GREEDY)
    with torch.no_grad():
        assert torch.equal(ours(text).logits[:, LENGTH - 1 : -1].argmax(-1), text[:, LENGTH:])


def test_a_window_of_the_rule_and_a_window_of_the_model_are_both_in_force():
    ids = tokens()
    with torch.no_grad():
        narrow = theirs("mistral", sliding_window=2)(ids).logits
        within(by_rule(theirs("mistral"), Rule(mask=masks.window(2)), "two")(ids).logits, narrow)
        wide = by_rule(theirs("mistral"), Rule(mask=masks.window(9)), "nine")(ids).logits
        within(wide, theirs("mistral")(ids).logits)


def test_a_mechanism_of_the_catalogue_is_named_with_its_options():
    model, ids = theirs("llama"), tokens()
    with torch.no_grad():
        by_name = by_rule(model, "sliding_window", "narrow", window=3)(ids).logits
        within(by_name, by_rule(model, Rule(mask=masks.causal & masks.window(3)), "narrow")(ids).logits)


@pytest.mark.parametrize("kind", ["gpt2", "gemma2"])  # the second caps its scores before
def test_a_bias_is_added_to_the_scores_of_the_model(kind):
    # they read a 4-D mask of floats as something to add, so they can be given the bias by hand
    model, ids = theirs(kind), tokens()
    distance = (torch.arange(LENGTH)[:, None] - torch.arange(LENGTH)).abs()
    slopes = torch.tensor([2.0**-2, 2.0**-4, 2.0**-6, 2.0**-8])  # of 4 heads
    bias = -slopes[:, None, None] * distance
    hidden = {"gpt2": masks.causal, "gemma2": masks.causal & masks.window(3)}[kind]
    hand = (written_out(hidden, LENGTH) + bias).clamp(min=torch.finfo(torch.float32).min)
    sloped = Rule(mask=hidden, scores=[scores.Alibi(4)])
    with torch.no_grad():
        within(by_rule(model, sloped, "sloped")(ids).logits, model(ids, attention_mask=hand).logits)


def test_masks_that_a_reader_writes_out_are_honoured():
    model, ids = theirs("gpt2"), tokens()
    ours, keep = by_rule(model), masks.causal & masks.strided(2)
    floats = written_out(keep, LENGTH, padded_left())
    with torch.no_grad():
        wanted = model(ids, attention_mask=floats).logits[padded_left().bool()]
        for given in (floats, floats == 0):
            within(ours(ids, attention_mask=given).logits[padded_left().bool()], wanted)


def test_packed_texts_are_told_apart_by_their_positions():
    model = theirs("llama")
    ids, places = tokens(batch=1), torch.tensor([[*range(4), *range(7)]])
    ours = by_rule(model)
    with torch.no_grad():
        found = ours(ids, position_ids=places, use_cache=False).logits
        within(found, model(ids, position_ids=places, use_cache=False).logits)
        within(found[:, 4:], ours(ids[:, 4:]).logits)


def test_dropout_acts_in_training_alone():
    model, ids = theirs("llama", attention_dropout=0.5), tokens()
    ours = by_rule(model)
    assert torch.equal(ours(ids).logits, ours(ids).logits)
    ours.train()
    assert not torch.equal(ours(ids).logits, ours(ids).logits)


def test_a_function_without_a_mask_function_reads_the_future_and_register_does_not_allow_it():
    # what goes wrong where one of the two registries is forgotten
    transformers.AttentionInterface.register(
        "forgotten", attention_of("forgotten", lambda query, key: Rule())
    )
    model, ids = theirs("llama"), tokens()
    lost = theirs("llama")
    lost.set_attn_implementation("forgotten")
    with torch.no_grad():
        within(
            lost(ids).logits, model(ids).logits
        )  # ours goes by the layer where there is no mask, and stays causal
        padded = lost(ids, attention_mask=padded_left()).logits[padded_left().bool()]
        wanted = model(ids, attention_mask=padded_left()).logits[padded_left().bool()]
    assert (padded - wanted).abs().max() > 0.01 * wanted.abs().max()  # but padding is lost
    name = register("whole", Rule(), replace=True)
    assert name in transformers.AttentionInterface().valid_keys()
    assert name in transformers.AttentionMaskInterface().valid_keys()


@pytest.mark.compiled
@pytest.mark.exhaustive
@pytest.mark.parametrize("mask", [masks.window(3), masks.blocks(4)], ids=repr)
def test_a_compiled_model_computes_and_writes_the_same(mask):
    model, ids = by_rule(theirs("llama"), Rule(mask=mask), "other"), tokens()
    told = {"attention_mask": padded_left(), "cache_implementation": "static"} | GREEDY
    with torch.no_grad():
        wanted = model(ids, attention_mask=padded_left(), use_cache=False).logits
        text = model.generate(ids, **told)
        model.forward = torch.compile(model.forward, backend="eager")
        within(model(ids, attention_mask=padded_left(), use_cache=False).logits, wanted)
        assert torch.equal(model.generate(ids, **told), text)


@pytest.mark.messages
class TestRefusals:
    def test_a_step_that_may_count_positions_where_a_cache_has_let_go_of_keys(self):
        def step(score, head, q_pos, kv_pos):
            return score + (kv_pos == 0)

        model = by_rule(theirs("mistral"), Rule(scores=(step,)), "counting")
        with pytest.raises(
            OptionError, match=r"let go of the first 9 keys, and .*step.* may count from there"
        ):
            model.generate(tokens(), attention_mask=torch.ones_like(tokens()), **GREEDY)

    def test_a_name_that_transformers_has(self):
        with pytest.raises(OptionError, match=r"transformers has an attention 'sdpa' already(?s:.*)our_sdpa"):
            register("sdpa", Rule())

    def test_a_name_that_means_something_else_there(self):
        with pytest.raises(OptionError, match=r"letters, digits and underscores.*got 'a/b'"):
            register("a/b", Rule())

    def test_a_name_of_another_rule(self):
        register("mine", Rule(mask=masks.window(2)), replace=True)
        register("mine", Rule(mask=masks.window(2)))
        with pytest.raises(
            OptionError, match=r"'mine' is Rule\(mask=window\(2\)\) already(?s:.*)replace=True"
        ):
            register("mine", Rule(mask=masks.window(3)))

    def test_options_beside_a_rule(self):
        with pytest.raises(OptionError, match="a rule has its options inside; got window besides"):
            register("mine", Rule(), window=3)

    def test_a_rule_with_dropout(self):
        with pytest.raises(OptionError, match=r"got a rule with dropout=0.1(?s:.*)attention_dropout"):
            register("mine", Rule(dropout=0.1))

    def test_a_mechanism_that_learns(self):
        with pytest.raises(OptionError, match="sink learns or changes something of its own"):
            register("mine", find("sink"))

    def test_a_mechanism_that_is_not_there(self):
        with pytest.raises(UnknownNameError, match="did you mean 'sliding_window'"):
            register("mine", "sliding_windows", window=3)

    def test_a_normalizer_in_a_model_with_sinks(self):
        model = by_rule(theirs("gpt_oss"), Rule(normalizer=normalizers.Sigmoid()), "sigmoid")
        with pytest.raises(OptionError, match=r"learned sinks, and the rule normalises by Sigmoid"):
            model(tokens())

    def test_a_model_that_attends_by_itself(self):
        config = transformers.BloomConfig(vocab_size=40, hidden_size=24, n_layer=2, n_head=4)
        model = transformers.BloomForCausalLM._from_config(config, attn_implementation=register())
        with pytest.raises(OptionError, match=r"computes with attention_mask itself(?s:.*)no rule would run"):
            model(tokens())

    def test_what_a_model_says_and_no_rule_knows(self):
        with pytest.raises(OptionError, match="passes head_mask, which changes what attention computes"):
            by_rule(theirs("llama"))(tokens(), head_mask=torch.ones(4))

    def test_a_mask_that_differs_by_head(self):
        keep = torch.ones(1, 4, LENGTH, LENGTH, dtype=torch.bool).tril()
        keep[:, 1, 5, 2] = False
        with pytest.raises(OptionError, match="keeps other pairs for other heads"):
            by_rule(theirs("llama"))(tokens(), attention_mask=keep)

    def test_a_mask_for_other_lengths(self):
        keep = torch.ones(1, 1, LENGTH, LENGTH - 1, dtype=torch.bool)
        with pytest.raises(
            ValueError, match=r"attention_mask \(1, 1, 11, 10\) is for other queries and keys"
        ):
            by_rule(theirs("llama"))(tokens(), attention_mask=keep)
