"""A recurrence: one mechanism whose past is a memory of fixed size, as a value that can be called and inspected.

    memory_t = update(memory_{t-1}, key_t, value_t, gates_t);    context_t = query_t memory_t

It is causal by definition: the memory after a token holds that token and those before it. So there is no mask, and
query and key are of the same tokens; what came before them comes as a state. What can be hidden are tokens as a
whole, such as padding: `keep`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from attnkit.errors import unknown_name
from attnkit.inputs import check_scale
from attnkit.recurrence.checks import check_chunk_tokens, check_keep, check_one_stream, check_state
from attnkit.recurrence.gates import Gate, fitted_gates
from attnkit.recurrence.inspection import RecurrenceInspection
from attnkit.recurrence.orders import (
    Stretch,
    Tokens,
    by_chunks,
    in_chunks,
    left_out,
    step_by_step,
    stretch_size,
)
from attnkit.shapes import Context, Key, Query, Value, Weights

_ORDERS = ("chunked", "parallel", "steps")


@dataclass(frozen=True, kw_only=True)
class Recurrence(ABC):
    """State update and read-out. Nothing here is learned or stored between calls; gates are given in each call.

    A new recurrence says `state_type`, `gates`, `features`, `update` and `stretch`; the three orders come from those.

    Attributes:
        chunk_tokens: how many tokens the chunked order takes at a time, a power of two. It changes speed alone.

    Raises:
        OptionError: an option has a value that means nothing.
    """

    chunk_tokens: int = 64
    state_type: ClassVar[type]
    gates: ClassVar[tuple[Gate, ...]] = ()
    rows_sum_to_one: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_chunk_tokens(self._name, self.chunk_tokens)

    def __call__(
        self,
        query: Query,
        key: Key,
        value: Value,
        *,
        order: str = "chunked",
        state: tuple[Tensor, ...] | None = None,
        keep: Tensor | None = None,
        **gates: Tensor | None,
    ) -> Context:
        """The context alone, `*batch heads len d_value`; arguments and errors are those of `run`."""
        return self.run(query, key, value, order=order, state=state, keep=keep, **gates)[0]

    def run(
        self,
        query: Query,
        key: Key,
        value: Value,
        *,
        order: str = "chunked",
        state: tuple[Tensor, ...] | None = None,
        keep: Tensor | None = None,
        **gates: Tensor | None,
    ) -> tuple[Context, Any]:
        """The context, and the state to go on with.

        Args:
            query: `*batch heads len head_dim`.
            key: `*batch kv_heads len head_dim`; query head h reads kv head `h // (heads // kv_heads)`.
            value: `*batch kv_heads len d_value`.
            order: "chunked", "parallel" (quadratic in len) or "steps". The results are the same.
            state: what an earlier `run` gave; nothing has been read before when left out.
            keep: `*batch len`, bool. A token that is not kept leaves the memory as it is; its context is what it reads.
            gates: `decay`, `beta`: numbers from 0 to 1, no logarithms, those that the recurrence takes, by name.

        Returns:
            The context, `*batch heads len d_value`, in the dtype of `value`, and the state: a tuple of tensors, in
            float32 or wider. Gradients flow through both; `detach` the tensors to cut them.

        Raises:
            ShapeError: axes do not fit together.
            DtypeError: tensors hold no floats (`keep`: no bools), or are not of one dtype and device.
            OptionError: a gate is missing, not taken, or not within 0 and 1; the state is of another recurrence.
            UnknownNameError: there is no such order or gate.
        """
        if order not in _ORDERS:
            raise unknown_name(self._name, "order", order, _ORDERS)
        with _full_precision(query.device):
            tokens = self._tokens(query, key, value, keep, gates)
            context, memory = self._ordered(order, tokens, self._memory(tokens, state))
            context = self.read_out(context)
        return context.flatten(-4, -3).to(value.dtype), self.to_state(memory.squeeze(-3))

    def weights(
        self, query: Query, key: Key, *, keep: Tensor | None = None, **gates: Tensor | None
    ) -> Weights:
        """How much each token reads of each value, `*batch heads len len`: `weights @ value` is the context.

        These are the weights of the parallel form. They may be negative, and need not sum to one. For the delta rules
        they hold the corrections. What a state brings in has no weights. Arguments and errors as in `run`.
        """
        length = key.shape[-2]
        with _full_precision(query.device):
            tokens = self._tokens(query, key, key, keep, gates)
            whole = in_chunks(tokens, stretch_size(length, None))
            weights = self.normalised(self.stretch(whole).weights)
        return weights[..., 0, :length, :length].flatten(-4, -3).to(query.dtype)

    def inspect(
        self, query: Query, key: Key, *, keep: Tensor | None = None, **gates: Tensor | None
    ) -> RecurrenceInspection:
        """What the context does not tell: weights, and what can be said of them. Arguments and errors as in `run`."""
        self._tokens(query, key, key, keep, gates)
        precise = torch.promote_types(query.dtype, torch.float32)
        query, key = query.detach().to(precise), key.detach().to(precise)
        compute = partial(self.weights, query, key, keep=keep, **gates)
        return RecurrenceInspection(compute, self._name, self.rows_sum_to_one)

    @abstractmethod
    def update(self, memory: Tensor, token: Tokens) -> Tensor:
        """The memory after one more token. This is the meaning; `stretch` must agree with it."""

    @abstractmethod
    def stretch(self, tokens: Tokens) -> Stretch:
        """What tokens side by side do together; their number is a power of two."""

    @abstractmethod
    def features(self, tokens: Tokens) -> Tokens:
        """What query, key and value are turned into before anything else."""

    def read_out(self, context: Tensor) -> Tensor:
        """The context, out of what the queries read."""
        return context

    def normalised(self, weights: Tensor) -> Tensor:
        """The weights of a call without a state, out of those of its stretch."""
        return weights

    def to_memory(self, state: tuple[Tensor, ...]) -> Tensor:
        """A state as one tensor, `*batch kv_heads head_dim d_value`."""
        return state[0]

    def to_state(self, memory: Tensor) -> Any:
        """The other way round."""
        return self.state_type(memory)

    @property
    def _name(self) -> str:
        return type(self).__name__

    def _tokens(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        keep: Tensor | None,
        given: Mapping[str, Tensor | None],
    ) -> Tokens:
        """What is multiplied: features, gates, and nothing to write where a token is not kept."""
        check_one_stream(self._name, query, key, value)
        check_keep(self._name, keep, key)
        gates = fitted_gates(self._name, self.gates, given, key)
        dtype = torch.promote_types(query.dtype, torch.float32)
        kv_heads = key.shape[-3]
        group = query.shape[-3] // kv_heads if kv_heads else 1
        shared = (x.to(dtype).unsqueeze(-3) for x in (key, value, *gates))
        tokens = self.features(Tokens(query.to(dtype).unflatten(-3, (kv_heads, group)), *shared))
        return tokens if keep is None else left_out(tokens, keep[..., None, None, :, None])

    def _ordered(self, order: str, tokens: Tokens, memory: Tensor) -> tuple[Tensor, Tensor]:
        alone = tokens.key.shape[-2] == 1  # one token needs no chunk, and is decoded in half the time without
        if order == "steps" or (order == "chunked" and alone):
            return step_by_step(self, tokens, memory)
        return by_chunks(self, tokens, memory, self.chunk_tokens if order == "chunked" else None)

    def _memory(self, tokens: Tokens, state: tuple[Tensor, ...] | None) -> Tensor:
        shape = (*tokens.key.shape[:-3], tokens.key.shape[-1], tokens.value.shape[-1])
        empty = tokens.key.new_zeros(shape)
        if state is not None:
            check_state(self._name, state, self.to_state(empty))
            empty = self.to_memory(state)
        return empty.unsqueeze(-3)


@dataclass(frozen=True, kw_only=True)
class Scaled(Recurrence):
    """A recurrence whose weights are products of query and key, times a scale.

    Attributes:
        scale: multiplies the weights; `head_dim ** -0.5` when not given.
    """

    scale: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scale(self._name, self.scale)

    def features(self, tokens: Tokens) -> Tokens:
        """The query, scaled."""
        scale = tokens.query.shape[-1] ** -0.5 if self.scale is None else self.scale
        return tokens._replace(query=tokens.query * scale)


def _full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """No autocast inside: a memory that thousands of tokens add to would lose them in half precision."""
    available = torch.amp.is_autocast_available(device.type)
    return torch.autocast(device.type, enabled=False) if available else nullcontext()
