"""A mechanism called on heads: its own mask can be set, and another only hides more."""

import torch

from attnkit import find, masks
from attnkit.rule import Rule
from tests.helpers import inputs


def test_a_mask_that_is_an_option_takes_the_place_of_the_default():
    query, key, value = inputs()
    found = find("unscaled")(query, key, value, mask=masks.full)
    torch.testing.assert_close(found, Rule(scale=1.0)(query, key, value))


def test_a_mask_beside_a_mechanism_that_looks_somewhere_hides_more():
    query, key, value = inputs()
    found = find("sliding_window")(query, key, value, window=3, mask=masks.lengths([5, 7]))
    wanted = Rule(mask=masks.causal & masks.window(3) & masks.lengths([5, 7]))(query, key, value)
    torch.testing.assert_close(found, wanted)


def test_weights_are_those_of_the_same_mask():
    query, key, _ = inputs()
    found = find("unscaled").weights(query, key, mask=masks.full)
    torch.testing.assert_close(found, Rule(scale=1.0).inspect(query, key).weights())
