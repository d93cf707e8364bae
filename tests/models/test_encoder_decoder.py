"""An encoder-decoder: what it writes follows from all of the source, and from the target so far alone."""

import copy
import pickle

import pytest
import torch

from attnkit.errors import OptionError, ShapeError
from attnkit.models import EncoderDecoder, beam_search, generate
from tests.models import tiny


def source(batch=2, length=5):
    return tiny.ids(batch, length, vocabulary_size=13, seed=3)


def test_it_is_its_parts_one_after_the_other():
    model, tokens = tiny.both(), tiny.ids()
    memory = model.encoder(source())
    x = model.embedding.token.weight[tokens] + model.embedding.position.weight[: tiny.LENGTH]
    for block in model.blocks:
        x = block(x, memory)
    torch.testing.assert_close(model(source(), tokens), model.norm(x) @ model.embedding.token.weight.mT)


def test_every_logit_depends_on_every_token_of_the_source():
    model, tokens = tiny.both(), tiny.ids(batch=1)
    for changed in range(5):
        other = source(batch=1)
        other[0, changed] = (other[0, changed] + 1) % 13
        assert ((model(other, tokens) - model(source(batch=1), tokens)).abs().amax(-1) > 1e-9).all()


def test_no_logit_depends_on_a_later_token_of_the_target():
    model, tokens = tiny.both(), tiny.ids(batch=1)
    other = tokens.clone()
    other[0, 4] = (tokens[0, 4] + 1) % tiny.VOCABULARY
    moved = (model(source(batch=1), other) - model(source(batch=1), tokens)).abs().amax(-1)[0]
    assert moved[:4].max() < 1e-9
    assert moved[4] > 1e-9


@pytest.mark.parametrize("lengths", tiny.CHUNKS)
@pytest.mark.parametrize("width", [24, 36])
def test_logits_do_not_depend_on_how_tokens_are_cut_into_calls(lengths, width):
    model, tokens = tiny.both(source_width=width), tiny.ids()
    memory, caches = model.encoder(source()), model.new_caches()
    logits = torch.cat([model.decode(part, memory, caches=caches) for part in tokens.split(lengths, 1)], 1)
    torch.testing.assert_close(logits, model(source(), tokens), rtol=0, atol=1e-9)


def test_padding_in_source_and_target_changes_nothing():
    model, tokens, read = tiny.both(), tiny.ids(), source()
    given, mask = tiny.padding(0, 2, length=5), tiny.padding(0, 3)
    found = model(read, tokens, source_mask=given, mask=mask)
    torch.testing.assert_close(found[1:, 3:], model(read[1:, 2:], tokens[1:, 3:]), rtol=0, atol=1e-9)


def test_last_gives_the_last_logits_alone():
    model, memory = tiny.both(), tiny.both().encoder(source())
    torch.testing.assert_close(
        model.decode(tiny.ids(), memory, last=1), model.decode(tiny.ids(), memory)[:, -1:]
    )


def by_hand(model, read, tokens, count):
    for _ in range(count):
        tokens = torch.cat([tokens, model(read, tokens)[:, -1:].argmax(-1)], 1)
    return tokens


def test_it_writes_what_it_finds_likeliest():
    model, tokens = tiny.both(), tiny.ids(length=1)
    found = generate(model.reading(source()), tokens, max_new_tokens=6)
    assert torch.equal(found, by_hand(model, source(), tokens, 6))


def test_sources_of_other_lengths_are_answered_as_each_alone():
    model, tokens, read, mask = tiny.both(), tiny.ids(length=1), source(), tiny.padding(0, 2, length=5)
    found = generate(model.reading(read, mask=mask), tokens, max_new_tokens=6)
    assert torch.equal(found[1:], generate(model.reading(read[1:, 2:]), tokens[1:], max_new_tokens=6))


def test_beams_read_the_source_of_their_own_text():
    model, tokens, read = tiny.both(), tiny.ids(length=1), source()
    mask = tiny.padding(0, 2, length=5)
    texts, sums = beam_search(model.reading(read, mask=mask), tokens, max_new_tokens=5, beams=3)
    for text in range(2):
        reading = model.reading(read[text : text + 1], mask=mask[text : text + 1])
        alone, total = beam_search(reading, tokens[text : text + 1], max_new_tokens=5, beams=3)
        assert torch.equal(texts[text : text + 1], alone)
        torch.testing.assert_close(sums[text : text + 1], total)


def test_checkpointing_changes_no_gradient():
    model, tokens = tiny.both(), tiny.ids()
    wanted = torch.autograd.grad(model(source(), tokens).square().sum(), tuple(model.parameters()))
    model.checkpointing = model.encoder.checkpointing = True
    found = torch.autograd.grad(model(source(), tokens).square().sum(), tuple(model.parameters()))
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


def test_copies_and_pickles_give_the_same_and_stay_tied():
    model, tokens = tiny.both(), tiny.ids()
    other = tiny.both()
    other.load_state_dict(model.state_dict(), assign=True)
    for one in (other, copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(one(source(), tokens), model(source(), tokens))
        assert one.unembedding.weight is one.embedding.token.weight


@pytest.mark.messages
def test_a_layer_that_reads_the_future_is_refused():
    with pytest.raises(OptionError, match=r"Decoder: layer 0, full, reads the future"):
        EncoderDecoder(
            tiny.encoder(),
            tiny.config(attention=({"mechanism": "full"},)),
            vocabulary_size=5,
            context_length=4,
        )


@pytest.mark.messages
def test_a_source_for_another_batch_is_refused():
    with pytest.raises(ShapeError, match=r"memory \(3, 5, 24\) is for a batch of \(3,\); x is \(2, 7, 24\)"):
        tiny.both()(source(batch=3), tiny.ids())


@pytest.mark.messages
def test_a_prompt_longer_than_the_model_reads_is_refused():
    with pytest.raises(
        ShapeError, match=r"7 tokens and 20 new ones are more than context_length=16 can read"
    ):
        generate(tiny.both().reading(source()), tiny.ids(), max_new_tokens=20)
