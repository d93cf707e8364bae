"""What a table of who reads whom looks like: causal, a window, all; and which of its holes nobody leaves on purpose.

Windows, blocks, strides and hard choices leave holes by design, so that few of them are called faults.
"""

import torch
from torch import Tensor


def _distance(length: int) -> Tensor:
    places = torch.arange(length)
    return places[:, None] - places[None, :]


def band(support: Tensor) -> tuple[int, int]:
    """How many tokens before itself the last output reads, and how many after itself the first."""
    length = support.shape[0]
    back, ahead = support[-1].nonzero().flatten(), support[0].nonzero().flatten()
    return (
        length - 1 - int(back.min()) if len(back) else 0,
        int(ahead.max()) if len(ahead) else 0,
    )


def is_band(support: Tensor) -> bool:
    """Whether each output reads all from so many tokens before its own to so many after."""
    distance, (before, after) = _distance(support.shape[0]), band(support)
    return torch.equal(support, (distance <= before) & (distance >= -after))


def in_words(support: Tensor) -> tuple[str, int | None]:
    """The pattern in words, and the window where it is one; own tokens are taken as read."""
    length = support.shape[0]
    support = support | torch.eye(length, dtype=torch.bool)
    distance, (before, after) = _distance(length), band(support)
    inside = (distance <= before) & (distance >= -after)
    if support.all():
        return "reads all", None
    if torch.equal(support, distance >= 0):
        return "causal", None
    if torch.equal(support, distance <= 0):
        return "reads later tokens alone", None
    if torch.equal(support, inside) and not after:
        return f"causal, window of {before + 1}", before + 1
    if torch.equal(support, inside):
        return f"reads {before} tokens before and {after} after its own", before + 1 + after
    causal = "causal, " if not support.triu(1).any() else ""
    return f"{causal}a pattern of its own", None


def holes(support: Tensor, *, causal: bool, window: int | None) -> list[tuple[int, int]]:
    """Pairs (output, token) that nothing explains: the output should read the token, and does not.

    Args:
        support: who reads whom, (len, len).
        causal: whether later tokens are hidden by what was declared.
        window: how many tokens each reads by what was declared; None where nothing was.
    """
    length = support.shape[0]
    distance = _distance(length)
    may = distance >= 0 if causal else torch.ones_like(support)
    if window is not None and window <= length:
        before, after = band(support)
        fits = window == before + 1 + (0 if causal else after)
        may = (distance >= 0) & (distance < window) if causal or window == before + 1 else may & support
        if fits and not causal:
            may = (distance <= before) & (distance >= -after)
        return _pairs(may & ~support)
    if length < 3:
        return []
    blind = may & ~support
    own = blind & torch.eye(length, dtype=torch.bool)
    own[0] = False  # nobody is left to read before the first token
    if own.any():
        return _pairs(own)
    others = may & ~torch.eye(length, dtype=torch.bool)
    empty = (others & ~support).sum(0) == others.sum(0)  # tokens that nobody else reads
    empty &= others.sum(0) > 1
    rest = others & ~empty[None, :]
    if 1 <= int(empty.sum()) <= 2 and rest.any() and support[rest].all():
        return _pairs(others & empty[None, :])
    return []


def _pairs(blind: Tensor) -> list[tuple[int, int]]:
    return [(int(t), int(s)) for t, s in blind.nonzero()]
