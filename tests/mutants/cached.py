"""Caches done wrong: decoding in chunks differs from the full pass."""

import torch

from tests.mutants.base import (
    CACHED,
    CACHED_ABSOLUTE,
    CACHED_ALIBI,
    CACHED_RELATIVE,
    CACHED_ROTARY,
    CACHED_WINDOW,
    LONGEST,
    planted,
    rotated,
    slopes,
)


@planted(
    "aligned-at-the-first-key",
    "cache-causal-alignment",
    CACHED,
    CACHED_ROTARY,
    source="rasbt/LLMs-from-scratch@6522be9",
)
class AlignedAtTheFirstKey:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, 0, keep)


@planted(
    "chunks-read-all",
    "cache-mismatch",
    CACHED,
    source="huggingface/transformers#45513",
    also=("cache-causal-alignment", "future-leak"),
)
class ChunksReadAll:
    def pattern(self, t, s):
        return super().pattern(t, s) | (t.shape[0] != s.shape[0])


@planted(
    "chunks-read-only-themselves",
    "cache-mismatch",
    CACHED,
    source="huggingface/transformers#45513",
    also=("cache-causal-alignment",),
)
class ChunksReadOnlyThemselves:
    def pattern(self, t, s):
        return super().pattern(t, s) & ((s >= t[0]) | (t.shape[0] == 1))


@planted("cache-for-one-token-only", "cache-mismatch", CACHED, source="huggingface/transformers#45513")
class CacheForOneTokenOnly:
    def remember(self, key, value, cache):
        if key.shape[2] > 1:
            cache.clear()
        return super().remember(key, value, cache)


@planted("cache-in-front", "cache-mismatch", CACHED, also=("cache-causal-alignment",))
class CacheInFront:
    def remember(self, key, value, cache):
        if "key" in cache:
            key, value = torch.cat([key, cache["key"]], 2), torch.cat([value, cache["value"]], 2)
        cache["key"], cache["value"] = key, value
        return key, value


@planted("value-not-cached", "cache-mismatch", CACHED)
class ValueNotCached:
    def remember(self, key, value, cache):
        key, fresh = super().remember(key, value, cache)
        held = fresh.shape[2] - value.shape[2]
        return key, torch.cat([torch.zeros_like(fresh[:, :, :held]), value], 2)


@planted(
    "cache-not-written-after-the-first", "cache-mismatch", CACHED, source="huggingface/transformers#45513"
)
class CacheNotWrittenAfterTheFirst:
    def remember(self, key, value, cache):
        held = dict(cache)
        key, value = super().remember(key, value, cache)
        if held:
            cache.update(held)
        return key, value


@planted("chunk-cached-twice", "cache-mismatch", CACHED, source="lucidrains/x-transformers#311")
class ChunkCachedTwice:
    def remember(self, key, value, cache):
        super().remember(key, value, cache)
        if cache["key"].shape[2] == key.shape[2]:
            return key, value
        cache["key"], cache["value"] = (
            torch.cat([cache[name], new], 2) for name, new in (("key", key), ("value", value))
        )
        return cache["key"][:, :, : -key.shape[2]], cache["value"][:, :, : -key.shape[2]]


@planted(
    "last-of-a-chunk-lost",
    "cache-mismatch",
    CACHED,
    source="facebookresearch/fairseq#3908",
    also=("cache-window",),
)
class LastOfAChunkLost:
    def remember(self, key, value, cache):
        found = super().remember(key, value, cache)
        if key.shape[2] > 1:
            cache["key"], cache["value"] = cache["key"][:, :, :-1], cache["value"][:, :, :-1]
        return found


@planted(
    "padding-mask-at-the-first-step-only",
    "cache-mismatch",
    CACHED,
    source="OpenNMT/OpenNMT-py#2532",
    also=("mask-skipped", "mask-ignored"),
)
class PaddingMaskAtTheFirstStepOnly:
    def allowed(self, q_len, kv_len, start, keep):
        return super().allowed(q_len, kv_len, start, keep if q_len == kv_len else None)


@planted("state-of-the-last-call", "cache-stale", CACHED, also=("state-changed",))
class StateOfTheLastCall:
    """The cache is the layer's own, and nobody empties it."""

    def build(self):
        self.held = {}

    def attend(self, x, read, keep, cache):
        batch = self.held["key"].shape[0] if self.held else 0
        if batch != x.shape[0] or (keep is not None and keep.shape[1] == x.shape[1]):
            self.held = {}
        return super().attend(x, read, keep, self.held)


@planted("cache-shared-by-sequences", "cache-stale", CACHED)
class CacheSharedBySequences:
    def build(self):
        self.held = {}

    def remember(self, key, value, cache):
        if not cache and self.held and self.held["key"].shape[0] == key.shape[0]:
            cache.update(self.held)
            key, value = super().remember(key, value, cache)
            own = key.shape[2] - self.held["key"].shape[2]
            return key[:, :, -own:], value[:, :, -own:]
        found = super().remember(key, value, cache)
        self.held = {name: part.detach() for name, part in cache.items()}
        return found


@planted("room-never-written-is-read", "cache-stale", CACHED, also=("cache-mismatch",))
class RoomNeverWrittenIsRead:
    """A cache of fixed room, whose empty places hold zeros that are read."""

    def remember(self, key, value, cache):
        if not self.decodes:
            return key, value
        held = cache["length"] if cache else 0
        rooms = (
            (cache["key_room"], cache["value_room"])
            if cache
            else [torch.zeros(*part.shape[:2], 16, part.shape[3]).to(part) for part in (key, value)]
        )
        for room, part in zip(rooms, (key, value), strict=True):
            room[:, :, held : held + part.shape[2]] = part
        held += key.shape[2]
        cache.update(key_room=rooms[0], value_room=rooms[1], length=held, key=rooms[0][:, :, :held])
        return rooms

    def allowed(self, q_len, kv_len, start, keep):
        if not self.decodes:
            return super().allowed(q_len, kv_len, start, keep)
        return torch.ones(1, 1, q_len, kv_len, dtype=torch.bool)


@planted("cache-changed-behind", "state-changed", CACHED, also=("cache-mismatch", "cache-stale"))
class CacheChangedBehind:
    """What was cached is scaled in place at each step."""

    def remember(self, key, value, cache):
        if cache:
            cache["value"] = cache["value"] * 0.9
        return super().remember(key, value, cache)


@planted("batch-of-the-cache-rolled", "cache-mismatch", CACHED, also=("batch-crosstalk",))
class BatchOfTheCacheRolled:
    def remember(self, key, value, cache):
        if cache:
            cache.update({name: held.roll(1, 0) for name, held in cache.items()})
        return super().remember(key, value, cache)


@planted(
    "rotary-from-0",
    "position-offset",
    CACHED_ROTARY,
    source="time-series-foundation-models/lag-llama#81",
    also=("cache-mismatch",),
)
class RotaryFrom0:
    def turn(self, query, key, value, start):
        return rotated(query, 0), rotated(key, 0), value


@planted(
    "rotary-query-from-0",
    "position-offset",
    CACHED_ROTARY,
    source="time-series-foundation-models/lag-llama#81",
    also=("cache-mismatch",),
)
class RotaryQueryFrom0:
    def turn(self, query, key, value, start):
        return rotated(query, 0), rotated(key, start), value


@planted(
    "rotary-one-too-far",
    "position-offset",
    CACHED_ROTARY,
    source="time-series-foundation-models/lag-llama#81",
    also=("cache-mismatch",),
)
class RotaryOneTooFar:
    def turn(self, query, key, value, start):
        return super().turn(query, key, value, start + 1 if start else 0)


@planted("rotary-turned-again", "position-offset", CACHED_ROTARY, also=("cache-mismatch",))
class RotaryTurnedAgain:
    """Keys are cached turned, and turned again when they are read."""

    def remember(self, key, value, cache):
        fresh = not cache
        key, value = super().remember(key, value, cache)
        return (key if fresh else rotated(key, 0)), value


@planted(
    "alibi-from-0",
    "position-offset",
    CACHED_ALIBI,
    source="lucidrains/x-transformers#103",
    also=("cache-mismatch",),
)
class AlibiFrom0:
    def bias(self, scores, start):
        rows = torch.arange(scores.shape[-2])[:, None]
        return (
            scores
            - slopes(self.num_heads).to(scores)[:, None, None] * (rows - torch.arange(scores.shape[-1])).abs()
        )


@planted(
    "alibi-not-in-decoding",
    "position-offset",
    CACHED_ALIBI,
    source="huggingface/transformers#8518",
    also=("cache-mismatch", "position-missing"),
)
class AlibiNotInDecoding:
    def bias(self, scores, start):
        return scores if start else super().bias(scores, start)


@planted(
    "relative-from-0",
    "position-offset",
    CACHED_RELATIVE,
    source="lucidrains/x-transformers#103",
    also=("cache-mismatch",),
)
class RelativeFrom0:
    def bias(self, scores, start):
        q_len, kv_len = scores.shape[-2:]
        return scores + self.relative[:, torch.arange(q_len)[:, None] - torch.arange(kv_len) + LONGEST - 1]


@planted(
    "relative-not-in-decoding",
    "position-offset",
    CACHED_RELATIVE,
    source="huggingface/transformers#8518",
    also=("cache-mismatch", "position-missing"),
)
class RelativeNotInDecoding:
    def bias(self, scores, start):
        return scores if scores.shape[-2] == 1 and scores.shape[-1] > 1 else super().bias(scores, start)


@planted(
    "absolute-from-0",
    "position-offset",
    CACHED_ABSOLUTE,
    source="time-series-foundation-models/lag-llama#81",
    also=("cache-mismatch",),
)
class AbsoluteFrom0:
    def placed(self, x, start):
        return super().placed(x, 0)


@planted("window-cut-before", "cache-window", CACHED_WINDOW, source="pytorch/executorch#21857")
class WindowCutBefore:
    def remember(self, key, value, cache):
        held = cache["key"].shape[2] if cache else 0
        key, value = super().remember(key, value, cache)
        if held:
            key, value = key[:, :, -self.window :], value[:, :, -self.window :]
        return key, value

    def allowed(self, q_len, kv_len, start, keep):
        if kv_len < q_len:
            return torch.arange(kv_len) <= torch.arange(q_len)[:, None] + kv_len - q_len
        return super().allowed(q_len, kv_len, start, keep if keep is None else keep[:, -kv_len:])


@planted(
    "window-cut-by-one-too-many",
    "cache-window",
    CACHED_WINDOW,
    source="pytorch/executorch#21857",
    also=("cache-mismatch",),
)
class WindowCutByOneTooMany:
    def pattern(self, t, s):
        cut = self.window - (1 if t.shape[0] < s.shape[0] else 0)
        return (s <= t) & (t - s < cut)


@planted(
    "window-of-the-chunk",
    "cache-window",
    CACHED_WINDOW,
    source="vllm-project/vllm#47332",
    also=("cache-mismatch", "cache-causal-alignment"),
)
class WindowOfTheChunk:
    def pattern(self, t, s):
        return (s <= t) & (t - t[0] - s < self.window) if t.shape[0] < s.shape[0] else super().pattern(t, s)


@planted(
    "window-not-in-decoding",
    "cache-window",
    CACHED_WINDOW,
    source="unslothai/unsloth#8253",
    also=("cache-mismatch",),
)
class WindowNotInDecoding:
    def pattern(self, t, s):
        return (s <= t) & ((t - s < self.window) | (t.shape[0] < s.shape[0]))
