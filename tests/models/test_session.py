"""A session: a model with its caches; who can write, and whose padding is not read."""

import pytest
import torch

from attnkit.errors import OptionError
from attnkit.layers.caching import counts_distances_alone
from attnkit.models import Session, generate
from tests.caches.layers import decodes, every_example
from tests.models import tiny

DECODING = [
    pytest.param({"mechanism": name, **options}, id=label)
    for label, name, options in every_example()
    if decodes(name, options)
]


def test_a_session_goes_on_from_what_it_has_read():
    model, tokens = tiny.decoder(), tiny.ids()
    session = Session(model)
    for part in tokens.split([3, 1, 3], 1):
        logits = session.read(part)
    torch.testing.assert_close(logits, model(tokens)[:, -1], rtol=0, atol=1e-9)
    assert session.length == tiny.LENGTH


def test_a_session_remembers_what_was_padding():
    model, tokens, mask = tiny.decoder(), tiny.ids(), tiny.padding(0, 3)
    session = Session(model)
    session.read(tokens[:, :5], mask[:, :5])
    logits = session.read(tokens[:, 5:])
    torch.testing.assert_close(logits, model(tokens, mask=mask)[:, -1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("samples", [[1, 0], [1, 1, 0], [0]])
def test_a_session_goes_on_from_other_samples(samples):
    model, tokens, mask, chosen = tiny.decoder(), tiny.ids(), tiny.padding(0, 3), torch.tensor(samples)
    session = Session(model)
    session.read(tokens[:, :5], mask[:, :5])
    session.reorder(chosen)
    logits = session.read(tokens[chosen, 5:])
    torch.testing.assert_close(logits, model(tokens[chosen], mask=mask[chosen])[:, -1], rtol=0, atol=1e-9)


@pytest.mark.parametrize("layout", DECODING)
def test_padding_is_refused_or_changes_nothing(layout):
    model, tokens, mask = tiny.decoder(attention=(layout,)), tiny.ids(), tiny.padding(0, 3)
    if not counts_distances_alone(model.blocks[0].attention):
        with pytest.raises(OptionError):
            generate(model, tokens, max_new_tokens=2, mask=mask)
        return
    padded = model(tokens, mask=mask)[1:, 3:]
    torch.testing.assert_close(padded, model(tokens[1:, 3:]), rtol=0, atol=1e-9)
    alone = generate(model, tokens[1:, 3:], max_new_tokens=3)
    assert torch.equal(generate(model, tokens, max_new_tokens=3, mask=mask)[1:, 3:], alone)


def test_most_mechanisms_take_padding():
    takes = [
        counts_distances_alone(tiny.decoder(attention=(one.values[0],)).blocks[0].attention)
        for one in DECODING
    ]
    assert 2 * sum(takes) > len(takes)


def test_a_model_that_trains_without_dropout_may_write():
    model = tiny.decoder().train()
    assert torch.equal(
        generate(model, tiny.ids(), max_new_tokens=2), generate(model.eval(), tiny.ids(), max_new_tokens=2)
    )


@pytest.mark.messages
def test_padding_that_would_be_read_is_refused():
    layout = {"mechanism": "block_local", "size": 3}
    model = tiny.decoder(attention=({"mechanism": "causal"}, layout))
    with pytest.raises(
        OptionError, match=r"layer 1, block_local, is not known to read a text after padding(?s:.*)fix"
    ):
        generate(model, tiny.ids(), max_new_tokens=2, mask=tiny.padding(0, 3))


@pytest.mark.messages
def test_a_mask_without_padding_is_no_reason_to_refuse():
    model = tiny.decoder(attention=({"mechanism": "block_local", "size": 3},))
    found = generate(model, tiny.ids(), max_new_tokens=2, mask=tiny.padding(0, 0))
    assert torch.equal(found, generate(model, tiny.ids(), max_new_tokens=2))


@pytest.mark.messages
@pytest.mark.parametrize(
    "layout", [{"mechanism": "causal", "dropout": 0.1}, {"mechanism": "causal"}], ids=["weights", "parts"]
)
def test_writing_with_dropout_is_refused(layout):
    model = tiny.decoder(attention=(layout,), dropout=0.0 if "dropout" in layout else 0.1).train()
    with pytest.raises(
        OptionError, match=r"training mode, where dropout changes what it writes\n  fix: model.eval"
    ):
        generate(model, tiny.ids(), max_new_tokens=2)


@pytest.mark.messages
@pytest.mark.parametrize("writer", [tiny.encoder, tiny.both], ids=["encoder", "both"])
def test_what_cannot_write_is_refused(writer):
    with pytest.raises(
        OptionError, match=r"with what it reads; got Encoder(Decoder)?\n  fix: .*model.reading\(source"
    ):
        generate(writer(), tiny.ids(), max_new_tokens=2)
