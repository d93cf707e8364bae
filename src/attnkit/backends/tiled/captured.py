"""Tensors that a score step or normalizer brings along, so that gradients reach them though tiles are computed twice.

A step may hold a parameter, or a closure may: nobody says which. So a few scores are computed under a mode that sees
every call of PyTorch, and what wants a gradient there, and is no input, is captured. While tiles are computed, the same
mode puts a copy in the place of each, whose gradient can be asked for; what it then sees for the first time it refuses.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from attnkit import normalizers, scores
from attnkit.backends import eager
from attnkit.errors import BackendError
from attnkit.request import Request

_COLUMNS = 5  # of the keys that are tried: few, and not what any other size is likely to be
_OWN = (scores.Alibi, scores.RelativeBias, scores.Bias, scores.SoftCap)


class Swapped(TorchFunctionMode):
    """While it lasts, every call of PyTorch is given `copies` where it names `originals`.

    Attributes:
        originals: what is captured.
        copies: what stands in for each.
        strange: called with each tensor that wants a gradient and is not among them, where nothing is recorded.
    """

    def __init__(
        self,
        originals: Sequence[Tensor],
        copies: Sequence[Tensor],
        strange: Callable[[Tensor], object] | None,
    ) -> None:
        super().__init__()
        self._copy_of = {id(tensor): copy for tensor, copy in zip(originals, copies, strict=True)}
        self._strange = strange

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """The call, with copies."""
        return function(*self._swapped(args), **self._swapped(kwargs or {}))

    def _swapped(self, given: Any) -> Any:
        if isinstance(given, Tensor):
            copy = self._copy_of.get(id(given))
            if copy is None and self._strange is not None and given.requires_grad:
                self._strange(given)
            return given if copy is None else copy
        if type(given) in (tuple, list):
            return type(given)(self._swapped(part) for part in given)
        return {name: self._swapped(part) for name, part in given.items()} if type(given) is dict else given


def refuse_strange(tensor: Tensor) -> None:
    """For `Swapped`: a tensor that was not there when tensors were looked for.

    Raises:
        BackendError: always, rather than lose a gradient in silence.
    """
    raise BackendError(
        where="Rule",
        what=f"a score step or normalizer reads a tensor {tuple(tensor.shape)} that wants a gradient, but only of "
        "some positions",
        fix='read it at every position, or insist on backend="eager"',
    )


def strangers(request: Request) -> list[object]:
    """The steps, and the normalizer, that are not attnkit's own: nobody knows what they hold."""
    found: list[object] = [step for step in request.steps if type(step) not in _OWN]
    if not type(request.normalizer).__module__.startswith(normalizers.__name__):
        found.append(request.normalizer)
    return found


def captured_tensors(request: Request) -> tuple[Tensor, ...]:
    """The tensors besides query, key and value that a gradient of this request has to reach."""
    if not torch.is_grad_enabled() or not request.q_len * request.kv_len:
        return ()
    if not strangers(request):
        parts = (*request.steps, request.normalizer)
        found = [tensor for part in parts for tensor in getattr(part, "parameters", tuple)()]
        return tuple({id(tensor): tensor for tensor in found if tensor.requires_grad}.values())
    seen: list[Tensor] = []
    tried = _tried(request, _COLUMNS)
    with torch.no_grad(), Swapped((), (), seen.append):
        eager.weights(tried)
    return tuple({id(tensor): tensor for tensor in seen}.values())


def trouble(request: Request) -> str | None:
    """Why the steps or the normalizer of this request cannot be asked for a part of the scores; None when they can."""
    unknown = strangers(request)
    if not unknown or not request.q_len * request.kv_len:
        return None
    named = ", ".join(str(getattr(part, "__name__", part)) for part in unknown)
    try:
        with torch.no_grad():
            known = eager.scores(_tried(request, _COLUMNS))[..., :2]
            alone = eager.scores(_tried(request, 2))
    except Exception as error:  # the reader's code may raise anything
        told = getattr(error, "what", error)
        return f"it asks for a part of the scores at a time, and {named} then raises {type(error).__name__}: {told}"
    if not torch.allclose(known, alone, rtol=1e-3, atol=1e-3, equal_nan=True):
        return f"it asks for a part of the scores at a time, and {named} then gives other scores than for all at once"
    if torch.is_grad_enabled() and _hides_a_gradient(request):
        return (
            f"{named} holds a tensor that wants a gradient where only PyTorch's autograd.Function can see it"
        )
    return None


def _hides_a_gradient(request: Request) -> bool:
    """Whether a gradient leads out of a few scores to anything but the inputs and what is captured."""
    originals = captured_tensors(request)
    leaves = [tensor.detach().requires_grad_() for tensor in originals]
    tried = _tried(request, _COLUMNS)
    with torch.enable_grad(), Swapped(originals, leaves, None):
        reached = eager.weights(tried).grad_fn
    allowed = {id(leaf) for leaf in leaves}
    waiting, known = [reached], set()
    while waiting:
        node = waiting.pop()
        if node is None or node in known:
            continue
        known.add(node)
        variable = getattr(node, "variable", None)
        if variable is not None and id(variable) not in allowed:
            return True
        waiting += [before for before, _ in node.next_functions]
    return False


def _tried(request: Request, columns: int) -> Request:
    """One row of a few scores, that no gradient leads out of."""
    row = torch.tensor([request.q_len - 1], device=request.query.device)
    some = torch.arange(min(columns, request.kv_len), device=request.query.device)
    bare = replace(
        request, query=request.query.detach(), key=request.key.detach(), value=request.value.detach()
    )
    return bare.rows(row).columns(some)
