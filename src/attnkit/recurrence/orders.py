"""The three orders of one recurrence: step by step, a chunk at a time, all at once.

    step by step    memory = update(memory, token);  context = query @ memory
    a chunk         context = weights @ value + read @ memory;  memory = carry(memory) + write.T @ value

All at once is one chunk that holds every token. The memory is what the tokens so far have left behind,
`... head_dim d_value`; between chunks nothing else is handed on.
"""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn.functional import pad


class Tokens(NamedTuple):
    """What one call is given, fit to be multiplied: `*batch kv_heads group len size`, each group of 1 but the query's.

    Also one token of it, without len, or its chunks, `... chunks len size`. A gate that is not taken is 1.

    Attributes:
        query: `... len head_dim`, its features, scaled.
        key: `... len head_dim`, its features.
        value: `... len d_value`.
        decay: `... len 1` or `... len head_dim`.
        beta: `... len 1`.
    """

    query: Tensor
    key: Tensor
    value: Tensor
    decay: Tensor
    beta: Tensor


class Stretch(NamedTuple):
    """What a stretch of tokens reads from itself and from the memory that comes in, and what it makes of that memory.

    Attributes:
        weights: `... len len`, how much each token reads of each value.
        read: `... len head_dim`, what each token reads the incoming memory with.
        write: `... len head_dim`, what each value is written into the memory with.
        carry: what becomes of the incoming memory: factors, `... 1 1` or `... head_dim 1`, or a matrix,
            `... head_dim head_dim`.
    """

    weights: Tensor
    read: Tensor
    write: Tensor
    carry: Tensor


_FILLS = (0.0, 0.0, 0.0, 1.0, 0.0)  # of query, key, value, decay, beta


@runtime_checkable
class Definition(Protocol):
    """One recurrence, as the orders need it."""

    def update(self, memory: Tensor, token: Tokens) -> Tensor:
        """The memory after one more token."""
        ...

    def stretch(self, tokens: Tokens) -> Stretch:
        """What a stretch of tokens does; its len is a power of two."""
        ...


def step_by_step(recurrence: Definition, tokens: Tokens, memory: Tensor) -> tuple[Tensor, Tensor]:
    """The context `... len d_value` and the memory after the last token, one token after the other."""
    contexts = [tokens.value.new_empty(*tokens.query.shape[:-2], 0, tokens.value.shape[-1])]
    for position in range(tokens.key.shape[-2]):
        token = Tokens(*(x[..., position, :] for x in tokens))
        memory = recurrence.update(memory, token)
        contexts.append(token.query.unsqueeze(-2) @ memory)
    return torch.cat(contexts, dim=-2), memory


def by_chunks(
    recurrence: Definition, tokens: Tokens, memory: Tensor, chunk_tokens: int | None
) -> tuple[Tensor, Tensor]:
    """The same, `chunk_tokens` at a time, or all at once where that is None."""
    length = tokens.key.shape[-2]
    size = stretch_size(length, chunk_tokens)
    tokens = in_chunks(tokens, size)
    stretch = recurrence.stretch(tokens)
    written = stretch.write.mT @ tokens.value
    carry = stretch.carry.expand(*written.shape[:-2], *stretch.carry.shape[-2:])
    memories = [memory]
    for kept, new in zip(carry.unbind(-3), written.unbind(-3), strict=True):
        memories.append(_carried(memories[-1], kept) + new)
    incoming = torch.stack(memories[:-1], dim=-3)
    context = stretch.weights @ tokens.value + stretch.read @ incoming
    return context.flatten(-3, -2)[..., :length, :], memories[-1]


def stretch_size(length: int, limit: int | None) -> int:
    """The smallest power of two that holds `length` tokens, or the `limit` if that is less.

    `torch.compile` takes the length as a constant from here on, and compiles again for another one: the loop over
    chunks is unrolled anyway, and with a symbol in every shape compiling took five times as long.
    """
    size = 1 << max(length - 1, 0).bit_length()
    return size if limit is None else min(size, limit)


def in_chunks(tokens: Tokens, size: int) -> Tokens:
    """The tokens as `... chunks size d`; what fills the last chunk writes nothing and keeps the memory as it is."""
    length = tokens.key.shape[-2]
    chunks = max(-(-length // size), 1)
    missing = chunks * size - length
    if missing:
        tokens = Tokens(*(pad(x, (0, 0, 0, missing), value=f) for x, f in zip(tokens, _FILLS, strict=True)))
    return Tokens(*(x.unflatten(-2, (chunks, size)) for x in tokens))


def left_out(tokens: Tokens, keep: Tensor) -> Tokens:
    """The tokens, of which those that are not kept read all the same, but write nothing and keep the memory as it is.

    Args:
        tokens: `*batch kv_heads group len size`.
        keep: the same axes with a size of 1, or fewer in front; True keeps.
    """
    written = (torch.where(keep, x, f) for x, f in zip(tokens[1:], _FILLS[1:], strict=True))
    return Tokens(tokens.query, *written)


def _carried(memory: Tensor, carry: Tensor) -> Tensor:
    return carry * memory if carry.shape[-1] == 1 else carry @ memory
