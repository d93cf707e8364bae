"""The paths of a target: modes, sizes and switches under which another branch of its code may run.

Faults live on paths. A mask that is right in evaluation may be missing in training, at a batch of one, or where weights
are asked for.
"""

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnkit.conformance.case import ROUNDING, Case
from attnkit.conformance.relations.reads import Source, apart, attempted
from attnkit.conformance.subject import Subject

ASKING = (
    "need_weights",
    "return_weights",
    "output_attentions",
    "return_attention",
    "return_attn",
    "need_head_weights",
)
DROPPED = 0.3


@dataclass(frozen=True)
class Path:
    """One way to call a target.

    Attributes:
        name: in words that follow "in" or a comma.
        training: the mode.
        grad: whether gradients are recorded.
        batch: samples.
        length: tokens.
        dtype: the precision.
        mask: what is given besides: "" nothing, "all" a mask that hides nothing, "some" one that hides a token.
        change: what is switched in a copy of the module; False where there is nothing to switch.
        level: the lowest that walks it.
    """

    name: str
    training: bool = False
    grad: bool = True
    batch: int = 3
    length: int = 7
    dtype: torch.dtype = torch.float64
    mask: str = ""
    change: Callable[[nn.Module], bool] | None = None
    level: str = "basic"


def ask_for_weights(module: nn.Module) -> bool:
    """Have a module return its weights, if an argument says so."""
    forward = module.forward
    known = inspect.signature(forward).parameters
    name = next((name for name in ASKING if name in known), None)
    if name is None:
        return False

    def asked(*given: Any, **more: Any) -> Any:
        return forward(*given, **(more | {name: True}))

    module.forward = asked
    return True


def drop_weights(module: nn.Module) -> bool:
    """Set dropout to 0.3 wherever a number or a submodule has that name."""
    found = False
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p, found = DROPPED, True
        for name, value in vars(part).items():
            if "drop" in name and isinstance(value, float) and "path" not in name:
                setattr(part, name, DROPPED)
                found = True
    return found


def checkpoint(module: nn.Module) -> bool:
    """Switch on the checkpointing of a module that has a switch for it."""
    names = [
        (part, name)
        for part in module.modules()
        for name, value in vars(part).items()
        if "checkpoint" in name and value is False
    ]
    for part, name in names:
        setattr(part, name, True)
    return bool(names)


def there_and_back(module: nn.Module) -> bool:
    """Move a module to float32 and back, as `.to` does."""
    module.to(torch.float32).to(torch.float64)
    return True


def compile_forward(module: nn.Module) -> bool:
    """Have a module run as `torch.compile` traces it; nothing is generated, as a fault of a generator is none of it."""
    module.forward = torch.compile(module.forward, backend="aot_eager")
    return True


BASE = Path("evaluation")
ASKED = Path("weights asked for", change=ask_for_weights)
PATHS = (
    Path("training", training=True),
    Path("evaluation without gradients", grad=False),
    Path("a batch of one", batch=1),
    Path("training with dropout", training=True, change=drop_weights),
    ASKED,
    Path("a mask that hides nothing", mask="all"),
    Path("a mask of keys", mask="some"),
    Path("2 tokens", length=2),
    Path("8 tokens", length=8),
    Path("training, a batch of one", training=True, batch=1, level="full"),
    Path("training without gradients", training=True, grad=False, level="full"),
    Path("weights asked for, without gradients", grad=False, change=ask_for_weights, level="full"),
    Path("checkpointing", training=True, change=checkpoint),
    Path("after .to(torch.float32)", change=there_and_back, level="full"),
    Path("as many samples as tokens", batch=7, level="full"),
    Path("4 samples of 4 tokens", batch=4, length=4, level="full"),
    Path("3 tokens", length=3, level="full"),
    Path("16 tokens", length=16, level="full"),
    Path("17 tokens", length=17),
    Path("float32", dtype=torch.float32, level="full"),
    Path("bfloat16", dtype=torch.bfloat16, level="full"),
    Path("float16", dtype=torch.float16, level="full"),
    Path("33 tokens", length=33, level="full"),
    Path("65 tokens", length=65, level="full"),
    Path("torch.compile", change=compile_forward, level="strict"),
    Path("torch.compile, in training", training=True, change=compile_forward, level="strict"),
)
ELSEWHERE = ("training", "evaluation without gradients", "weights asked for", "a mask that hides nothing")
OPPOSITE = {
    "training": "evaluation",
    "evaluation without gradients": "evaluation with gradients",
    "weights asked for": "no weights asked for",
    "a mask that hides nothing": "no mask of keys",
}


def both_ends(batch: int, length: int) -> Tensor:
    """A mask (batch, length) that hides the start of one sample, the end of the next, and so on."""
    places, keep = torch.arange(length), torch.ones(batch, length, dtype=torch.bool)
    for b in range(batch):
        hidden = 1 + (b // 2 + 1) % max(length - 1, 1)
        keep[b] = places >= hidden if b % 2 == 0 else places < length - hidden
    return keep


def right_padding(batch: int, length: int) -> Tensor:
    """A mask (batch, length) that hides the end of each sample, another number of tokens of each."""
    hidden = torch.arange(1, batch + 1) % length
    return torch.arange(length)[None, :] < length - hidden[:, None]


def mask_for(source: Source, batch: int, length: int) -> tuple[Tensor, Tensor] | None:
    """Tokens, and a mask that the target takes: padding at both ends, or behind; None where it takes neither."""
    keys, subject = (
        source.keys(batch, length, seed=30),
        source.case.subject.copied(),
    )  # it may hold on to a mask
    for made in (both_ends, right_padding):
        keep = made(batch, length)
        if attempted(source, keys, keep, subject) is not None:
            return keys, keep
    return None


def walked(case: Case, path: Path) -> Subject | None:
    """The target on a path; None where there is no such path."""
    if path.mask and not case.subject.takes_keep:
        return None
    subject = case.subject.copied(dtype=path.dtype, training=path.training)
    return None if path.change is not None and not path.change(subject.module) else subject


def wrong(source: Source, path: Path, claim: str) -> float | None:
    """How far outputs move with what they may not read on a path; None where that cannot be told.

    Args:
        source: what keys are made of.
        path: which one.
        claim: "future", "window" or "padding".
    """
    claims = {"future": _future, "window": _window, "padding": _padding}
    try:
        subject = walked(source.case, path)
        if subject is None:
            return None
        found = max((far for far in claims[claim](source, path, subject)), default=None)
        if found is not None and found > allowed(path) and not _repeats(source, path, subject):
            return None
    except Exception:  # a target may refuse a path, with whatever it raises
        return None
    return found


def allowed(path: Path) -> float:
    """What rounding may move outputs by on a path: a token that has no weight moves none."""
    return max(ROUNDING, 4 * torch.finfo(path.dtype).eps)


def elsewhere(source: Source, claim: str, pair: tuple[int, int] | None = None) -> tuple[str, str] | None:
    """For what is wrong in plain evaluation: where, and words that say where it is not; None if it is everywhere."""
    for path in PATHS:
        if path.name not in ELSEWHERE or (claim == "padding" and path.mask):
            continue
        far = _reads(source, path, pair) if pair is not None else wrong(source, path, claim)
        if far is not None and far <= ROUNDING:
            return OPPOSITE[path.name], f"with {path.name}"
    return None


def _called(path: Path, source: Source, subject: Subject, keys: Tensor, keep: Tensor | None) -> Tensor:
    with torch.set_grad_enabled(path.grad):
        return source(keys.to(path.dtype), keep, subject).detach().double()


def _given(path: Path) -> Tensor | None:
    if not path.mask:
        return None
    keep = torch.ones(path.batch, path.length, dtype=torch.bool)
    if path.mask == "some":
        keep[:, 1] = False
    return keep


def _compared(path: Path, base: Tensor, changed: Tensor, rows: Tensor) -> float:
    """The most that rows move that are finite; a nan in the base is another fault."""
    far = apart(base, changed)[rows & base.isfinite().all(-1)]
    return far.max().item() if far.numel() else 0.0


def _future(source: Source, path: Path, subject: Subject) -> Iterator[float]:
    keep = _given(path)
    keys, other = (source.keys(path.batch, path.length, seed=seed) for seed in (20, 21))
    base = _called(path, source, subject, keys, keep)
    for cut in {1, (path.length + 1) // 2, path.length - 1}:
        changed = torch.cat([keys[:, :cut], other[:, cut:]], 1)
        before = torch.arange(path.length).expand(path.batch, -1) < cut
        yield _compared(path, base, _called(path, source, subject, changed, keep), before)


def _window(source: Source, path: Path, subject: Subject) -> Iterator[float]:
    window = source.case.declared.window
    if window is None:
        return
    path = replace(path, length=max(path.length, window + 3))
    keep = _given(path)
    keys, other = (source.keys(path.batch, path.length, seed=seed) for seed in (20, 21))
    base = _called(path, source, subject, keys, keep)
    changed = torch.cat([other[:, : path.length - window], keys[:, path.length - window :]], 1)
    last = (torch.arange(path.length) == path.length - 1).expand(path.batch, -1)
    yield _compared(path, base, _called(path, source, subject, changed, keep), last)


def _padding(source: Source, path: Path, subject: Subject) -> Iterator[float]:
    keys, other = (source.keys(path.batch, path.length, seed=seed) for seed in (22, 23))
    for made in (both_ends, right_padding):
        keep = made(path.batch, path.length)
        junk = torch.where(keep[..., None], keys, other)
        try:
            base = _called(path, source, subject, keys, keep)
        except Exception:
            continue
        yield _compared(path, base, _called(path, source, subject, junk, keep), source.rows(keep))
        return


def _reads(source: Source, path: Path, pair: tuple[int, int] | None) -> float | None:
    """0 where output t moves with token s on a path, infinity where it does not."""
    assert pair is not None
    t, s = pair
    try:
        subject = walked(source.case, path)
        if subject is None:
            return None
        keys, other = (source.keys(path.batch, path.length, seed=seed) for seed in (20, 21))
        changed = keys.clone()
        changed[:, s] = other[:, s]
        base, after = (_called(path, source, subject, x, _given(path)) for x in (keys, changed))
    except Exception:  # a target may refuse a path
        return None
    return 0.0 if apart(base, after)[:, t].max() > ROUNDING else float("inf")


def _repeats(source: Source, path: Path, subject: Subject) -> bool:
    """Whether two equal calls on a path are equal, so that a difference tells something."""
    keys = source.keys(path.batch, path.length, seed=20)
    one, two = (_called(path, source, subject, keys, _given(path)) for _ in range(2))
    return bool((apart(one, two) <= ROUNDING).all())
