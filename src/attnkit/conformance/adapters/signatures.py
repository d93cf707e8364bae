"""How a module is called, read off the names of its arguments.

    x, hidden_states, input, ...                  the tokens
    memory, context, encoder_hidden_states, ...   what keys and values come from
    query, key, value                             the tokens, and twice the memory
    mask, keep, attn_mask, attention_mask         True or 1 keeps
    key_padding_mask                              True ignores

A mask of keys is (batch, kv_len), (batch, 1, 1, kv_len) or (batch, 1, kv_len): the first that a module takes.
"""

import inspect
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnkit.conformance.subject import TargetError

TOKENS = ("x", "hidden_states", "input", "inputs", "tokens", "q_x", "hidden", "src", "embeddings")
MEMORIES = ("memory", "context", "encoder_hidden_states", "kv", "key_value_states", "kv_x", "y", "cross")
KEEPS = ("keep", "mask", "attn_mask", "attention_mask", "padding_mask")
IGNORES = ("key_padding_mask", "ignore", "pad_mask")
CACHES = ("cache", "past_key_values", "past_key_value", "kv_cache")
THREES = (("query", "key", "value"), ("queries", "keys", "values"), ("q", "k", "v"))
FORMS = tuple((axes, dtype) for dtype in (torch.bool, torch.long) for axes in ((), (1, 1), (1,)))
ODD = (11, 7)  # samples and tokens that no head count equals, so that a wrong form cannot fit


@dataclass(frozen=True)
class Signature:
    """The names of a module's arguments by what they are for; "" where there is none.

    Attributes:
        tokens: the tokens; "" where they are the first of `*args`.
        memory: the memory.
        others: the names of key and value where it takes these; empty where it makes them itself.
        keep: a mask that is True where there is a token.
        ignore: a mask that is True where there is none.
        required: those of these that a call cannot leave out.
        form: the axes between batch and keys of a mask, and its dtype.
    """

    tokens: str
    memory: str
    others: tuple[str, ...]
    keep: str
    ignore: str
    required: frozenset[str] = frozenset()
    form: tuple[tuple[int, ...], torch.dtype] = FORMS[0]

    @property
    def three(self) -> bool:
        """Whether it takes query, key and value."""
        return bool(self.others)

    @classmethod
    def of(cls, module: nn.Module) -> "Signature":
        """The signature of a module's forward.

        Raises:
            TargetError: it takes nothing by name.
        """
        every = inspect.signature(module.forward).parameters
        told = {
            name: parameter
            for name, parameter in every.items()
            if parameter.kind not in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL)
        }
        names = list(told)
        three = next((each for each in THREES if set(each) <= set(names)), ())
        # whatever it is called, the first argument is the tokens
        first = [name for name in names[:1] if name not in (*MEMORIES, *KEEPS, *IGNORES, *CACHES)]
        tokens = next((name for name in (*three[:1], *TOKENS, *first) if name in names), "")
        if not tokens and not any(one.kind is one.VAR_POSITIONAL for one in every.values()):
            raise TargetError(
                where="check",
                what=f"{type(module).__name__}.forward names no argument for tokens",
                fix="check(module, call=lambda module, x, memory, keep, cache: module(...))",
            )
        found = [
            next((name for name in known if name in names and name != tokens), "")
            for known in (MEMORIES, KEEPS, IGNORES)
        ]
        required = frozenset(name for name, parameter in told.items() if parameter.default is parameter.empty)
        return cls(tokens, found[0], three[1:], found[1], found[2], required)

    def fitted(self, module: nn.Module, d_in: int, memory_dim: int) -> "Signature":
        """The same with the first form of a mask that the module takes; unchanged where it takes none.

        Args:
            module: a copy, in float64.
            d_in: numbers of a token.
            memory_dim: numbers of a token of the memory.
        """
        if not self.keep and not self.ignore:
            return self
        drawn = torch.Generator().manual_seed(0)
        x, other = (
            torch.randn(*ODD, width, generator=drawn, dtype=torch.float64) for width in (d_in, memory_dim)
        )
        keep = torch.ones(ODD, dtype=torch.bool)
        keep[:, 1] = False
        memory = other if self.memory in self.required or (self.three and memory_dim != d_in) else None
        for form in FORMS:
            tried = replace(self, form=form)
            try:
                with torch.no_grad():
                    tried(module, x, memory, keep, None)
            except Exception:
                continue
            return tried
        return self

    def __call__(
        self,
        module: nn.Module,
        x: Tensor,
        memory: Tensor | None,
        keep: Tensor | None,
        cache: dict[str, Any] | None,
    ) -> Any:
        """Call the module in its own way; caches are for adapters that know them."""
        assert cache is None
        given: dict[str, Any] = {self.tokens: x} if self.tokens else {}
        read = x if memory is None else memory
        given |= dict.fromkeys(self.others, read)
        if self.memory and (memory is not None or self.memory in self.required) and not self.three:
            given[self.memory] = read
        if keep is None and {self.keep, self.ignore} & self.required:
            keep = torch.ones(read.shape[:2], dtype=torch.bool, device=read.device)
        if keep is not None and (self.keep or self.ignore):
            axes, dtype = self.form
            mask = keep if self.keep else ~keep
            given[self.keep or self.ignore] = mask.view(mask.shape[0], *axes, mask.shape[1]).to(dtype)
        return module(**given) if self.tokens else module(x, **given)
