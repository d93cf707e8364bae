import pytest
import torch

from attnkit import Attention
from attnkit.conformance.case import Skip
from attnkit.conformance.relations.caches import CHUNKS, decoded, run_decoding
from tests.conformance.making import RIGHT, CachedAttention, call_cached, case_of, fault, findings
from tests.mutants.base import rotated

SAID = {"causal": True, "call": call_cached, "d_in": 24, "num_heads": 4}
DECODES = {name: RIGHT[name] for name in ("cached", "causal", "window", "recurrence")}


@pytest.mark.parametrize(("make", "said"), DECODES.values(), ids=DECODES)
def test_right_caches_are_left_alone(make, said):
    assert findings(run_decoding, make(), **said) == []


@pytest.mark.parametrize("kind", ["growing", "static", "sliding"])
def test_every_cache_of_a_layer_is_right(kind):
    room = {"max_tokens": 7} if kind == "static" else {}

    def call(module, x, memory, keep, cache):
        if cache is None:
            return module(x, mask=keep)
        held = cache.get("held") or module.new_cache(kind=kind, **room)
        return module(x, mask=keep, cache=held), {"held": held}

    layer = Attention(24, 4, mechanism="sliding_window", window=3)
    assert findings(run_decoding, layer, causal=True, window=3, call=call, d_in=24) == []


def test_chunks_are_one_text():
    # independent of the check: a cache of one's own, by hand
    case = case_of(CachedAttention(causal=True), **SAID)
    x = case.tokens()
    full = case.subject(x)
    for chunks in CHUNKS:
        assert sum(chunks) == x.shape[1]
        torch.testing.assert_close(decoded(case.subject, x, chunks), full)


def mutant(step, **built):
    """A cached target with these steps."""
    return type("Mutant", (step, CachedAttention), {})(causal=True, **built)


class FirstKey:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, 0, keep)


class ReadsChunk:
    def pattern(self, t, s):
        return super().pattern(t, s) | ((s >= t[0]) & (t.shape[0] != s.shape[0]))


class WindowOneLess:
    def pattern(self, t, s):
        return (s <= t) & (t - s < self.window - (t.shape[0] < s.shape[0]))


class OthersPast:
    def remember(self, key, value, cache):
        if cache:
            cache.update({name: held.flip(0) for name, held in cache.items()})
        return super().remember(key, value, cache)


class FromNought:
    def turn(self, query, key, value, start):
        return rotated(query, 0), rotated(key, 0), value


class PlacedFromNought:
    def placed(self, x, start):
        return super().placed(x, 0)


class Fades:
    def remember(self, key, value, cache):
        if cache:
            cache["value"] = cache["value"] * 0.9
        return super().remember(key, value, cache)


class Forgets:
    """Written once, so that only the first chunk is there."""

    def remember(self, key, value, cache):
        held = dict(cache)
        found = super().remember(key, value, cache)
        cache.update(held)
        return found


class OneForAll:
    """All texts share a cache."""

    def build(self):
        self.held = {}

    def remember(self, key, value, cache):
        if not cache and self.held and self.held["key"].shape[0] == key.shape[0]:
            cache.update(self.held)
            new = key.shape[2]
            key, value = super().remember(key, value, cache)
            return key[:, :, -new:], value[:, :, -new:]
        found = super().remember(key, value, cache)
        self.held = dict(cache)
        return found


class MaskOfTheFirst:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, keep if q_len == kv_len else None)


class OtherWithoutGradient:
    """Another branch where no gradient is recorded."""

    def remember(self, key, value, cache):
        held = bool(cache)
        key, value = super().remember(key, value, cache)
        return key, value * (0.5 if held and not torch.is_grad_enabled() else 1.0)


@pytest.mark.parametrize(
    ("target", "said", "called"),
    [
        (mutant(FirstKey), {}, "cache-causal-alignment"),
        (mutant(ReadsChunk), {}, "cache-mismatch"),
        (mutant(WindowOneLess, window=3), {"window": 3}, "cache-window"),
        (mutant(OthersPast), {}, "cache-mismatch"),
        (mutant(FromNought, positions="rotary"), {"positions": "rotary"}, "position-offset"),
        (mutant(PlacedFromNought, positions="absolute"), {"positions": "absolute"}, "position-offset"),
        (mutant(FromNought, positions="rotary"), {}, "cache-mismatch"),
        (mutant(Fades), {"positions": "rotary"}, "cache-mismatch"),
        (mutant(Forgets), {}, "cache-mismatch"),
        (mutant(OneForAll), {}, "cache-stale"),
        (mutant(OtherWithoutGradient), {}, "cache-mismatch"),
    ],
)
def test_a_wrong_cache_is_found_and_called_by_its_name(target, said, called):
    assert fault(run_decoding, target, **SAID, **said) == called


def test_a_mask_that_is_lost_in_decoding_is_found():
    (found,) = findings(run_decoding, mutant(MaskOfTheFirst), **SAID)
    assert (found.fault, found.path) == ("cache-mismatch", "a mask of keys")
    assert "with a mask of keys and not without" in found.sentence


def test_the_sentence_says_which_output_of_which_chunks():
    (found,) = findings(run_decoding, mutant(Fades), **SAID)
    assert found.sentence.startswith("in chunks of 1, 1, 1, 1, 1, 1, 1 tokens, output ")
    assert found.sentence.endswith("each reads what it should, and other values of it")


@pytest.mark.parametrize(
    ("target", "said", "reason"),
    [
        (CachedAttention(causal=True), SAID | {"cache": False}, "it takes no cache"),
    ],
)
def test_what_cannot_be_decoded_says_why(target, said, reason):
    with pytest.raises(Skip, match=reason):
        findings(run_decoding, target, **said)
