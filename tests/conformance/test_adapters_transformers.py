"""Attention of transformers is called as its own model calls it: the oracle is the model."""

import pytest
import torch

from attnkit.conformance import Declared, check
from attnkit.conformance.adapters import subject_of, told_of
from tests.conformance.trusted_transformers import ROWS, transformers_model, transformers_module

pytest.importorskip("transformers")


def inputs_of(model, name):
    """What a model is given, and a mask of its tokens where it takes one."""
    drawn = torch.Generator().manual_seed(2)
    ids = torch.randint(3, 30, (3, 6), generator=drawn)
    if hasattr(model.config, "image_size"):
        return {"pixel_values": torch.randn(3, 3, 8, 8, generator=drawn, dtype=torch.float64)}
    if name.startswith("wav2vec2"):
        return {"input_values": torch.randn(3, 40, generator=drawn, dtype=torch.float64)}
    if name.startswith("whisper"):
        return {
            "input_features": torch.randn(3, 4, 128, generator=drawn, dtype=torch.float64),
            "decoder_input_ids": ids,
        }
    more = {"decoder_input_ids": ids.flip(1)} if model.config.is_encoder_decoder else {}
    keep = torch.ones_like(ids)
    if name not in ("bloom", "falcon-alibi"):  # their models count places by the mask
        keep[0, 4], keep[1, 5] = 0, 0
    return {"input_ids": ids, "attention_mask": keep, **more}


class SeenError(Exception):
    """The attention was called; the rest of the model does not matter."""


def called(model, module, inputs):
    """What the model gives its attention, and what that gives."""

    def stop(_, given, named, output):
        raise SeenError(given, named, output)

    hook = module.register_forward_hook(stop, with_kwargs=True)
    with torch.no_grad(), pytest.raises(SeenError) as seen:
        model(**inputs)
    hook.remove()
    return seen.value.args


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_it_is_called_as_its_model_calls_it(row):
    torch.manual_seed(0)
    model, module = transformers_model(row)
    model = model.double().eval()
    inputs = inputs_of(model, row[0])
    given, named, output = called(model, module, inputs)
    x = given[0] if given else named["hidden_states"]
    memory = next(
        (
            named[name]
            for name in ("key_value_states", "encoder_hidden_states")
            if named.get(name) is not None
        ),
        None,
    )
    if "-cross" in row[0]:
        memory = given[1] if memory is None else memory
    of_decoder = ("decoder" in row[0] and "decoder_input_ids" in inputs) or row[0] == "marian"
    keep = inputs["attention_mask"].bool() if "attention_mask" in inputs and not of_decoder else None
    declared = told_of(module, Declared(cross=memory is not None))
    found = subject_of(module, declared)(x, memory=memory, keep=keep)
    expected = output[0] if isinstance(output, tuple) else output
    if row[0] == "bloom":  # it adds the residual stream itself
        expected = expected - (given[1] if len(given) > 1 else named["residual"])
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def test_a_layer_that_forgets_its_mask_is_caught():
    module, said = transformers_module(next(row for row in ROWS if row[0] == "llama"))
    forward = type(module).forward

    class Forgets(type(module)):
        def forward(self, hidden_states, position_embeddings=None, attention_mask=None, **more):
            self.is_causal = False
            return forward(self, hidden_states, position_embeddings, None, **more)

    module.__class__ = Forgets
    Forgets.__module__ = forward.__module__
    assert check(module, causal=True, **said).fault == "future-leak"
