"""Which backend runs: the one that is insisted on, or the one that is estimated to be fastest of those that can."""

import math
from dataclasses import dataclass

import torch

from attnkit.backends import BACKENDS, Backend, eager, sdpa
from attnkit.errors import BackendError, unknown_name
from attnkit.request import Request

# below this, estimating takes longer than any backend could save
_NOT_WORTH_ASKING_SECONDS = 3e-4
_BY_NAME = {backend.name: backend for backend in BACKENDS}


@dataclass(frozen=True)
class Explanation:
    """Which backends can run a rule. Print it to read it.

    Attributes:
        request: the rule and the inputs, in words.
        refusals: for each backend the reason why it cannot, or None.
        seconds: for each that can, an estimate of one forward pass, on a machine like benchmarks/ was run on.
        chosen: the backend that runs when none is insisted on.
    """

    request: str
    refusals: dict[str, str | None]
    seconds: dict[str, float]
    chosen: str

    def __str__(self) -> str:
        lines = [self.request]
        for name, reason in self.refusals.items():
            verdict = f"no: {reason}" if reason else f"yes, {_duration(self.seconds[name])}"
            lines.append(f"  {name:<6} {verdict}{'   <- chosen' if name == self.chosen else ''}")
        return "\n".join(lines)


def explained(told: str, request: Request) -> Explanation:
    """What each backend says to `request`, which is `told` in words."""
    refusals = {backend.name: backend.refusal(request) for backend in BACKENDS}
    able = [backend for backend in BACKENDS if refusals[backend.name] is None]
    seconds = {backend.name: backend.seconds(request) for backend in able}
    return Explanation(told, refusals, seconds, choose(request, None).name)


def choose(request: Request, wanted: str | None) -> Backend:
    """The backend `wanted`, or the fastest that can where that is None.

    Raises:
        BackendError: `wanted` cannot run this.
        UnknownNameError: there is no such backend.
    """
    if wanted is None:
        return _fastest(request)
    if wanted not in _BY_NAME:
        raise unknown_name("Rule", "backend", wanted, _BY_NAME)
    reason = _BY_NAME[wanted].refusal(request)
    if reason is not None:
        raise BackendError(
            where="Rule",
            what=f'backend="{wanted}" cannot run this: {reason}',
            fix="leave backend out to let attnkit choose; rule.explain(query, key, value) tells which can",
        )
    return _BY_NAME[wanted]


def _fastest(request: Request) -> Backend:
    if (backend := _for_one_query(request)) is not None:
        return backend
    able: list[Backend] = []
    for backend in BACKENDS:
        if (backend.compiles and request.query.device.type == "cpu") or backend.refusal(request) is not None:
            continue
        # while torch.compile traces, sizes may be symbols, of which estimates cannot be compared
        if torch.compiler.is_compiling() or (
            not able and backend.seconds(request) < _NOT_WORTH_ASKING_SECONDS
        ):
            return backend
        able.append(backend)
    return min(able, key=lambda backend: backend.seconds(request))


def _for_one_query(request: Request) -> Backend | None:
    """What computes one query that reads most keys, as in decoding; None for other requests.

    There is little to skip, and a plan of tiles is for one length: each token would have a new one, and wait for it
    longer than it takes to read its keys.
    """
    if request.q_len != 1 or request.query.device.type != "cpu" or torch.compiler.is_compiling():
        return None
    backend = sdpa if sdpa.refusal(request) is None else eager
    quick = sdpa.reads_all(request) or backend.seconds(request) < _NOT_WORTH_ASKING_SECONDS
    return _BY_NAME[backend.name] if quick or _reads_most(request) else None


def _reads_most(request: Request) -> bool:
    """Whether the first and the last key that one query may read are at least half of all keys apart."""
    keep = request.keep
    if keep is None:
        return True
    read = keep.flatten(0, -2).any(0).nonzero().flatten().tolist()
    return len(read) > 0 and 2 * (read[-1] - read[0] + 1) >= request.kv_len


def _duration(seconds: float) -> str:
    if math.isinf(seconds):
        return "if you insist: the first call compiles for some seconds"
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"about {seconds / size:.3g} {unit}"
    return f"about {seconds / 1e-6:.3g} us"
