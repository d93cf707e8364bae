"""A mechanism whose options are set: what a layer holds, and calls with its tensors.

tensors = bound.prepared(tensors, ...)   token by token; a cache holds the result
context = bound.attended(tensors, ...)
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attnkit import masks
from attnkit.errors import OptionError
from attnkit.masks import Mask
from attnkit.mechanism.keeping import tokens_kept
from attnkit.mechanism.parts import Sizes
from attnkit.mechanism.signatures import picked, taken
from attnkit.positions.position import numbered
from attnkit.recurrence import Recurrence
from attnkit.rule import Rule

if TYPE_CHECKING:
    from attnkit.mechanism.mechanism import Mechanism

Tensors = dict[str, Tensor]
_PROBED = 33  # tokens, enough to see whether a mask reads ahead


def sizes_of(query: Tensor, key: Tensor) -> Sizes:
    """The sizes of tensors that no layer made."""
    heads, head_dim = query.shape[-3], key.shape[-1]
    return Sizes(heads, key.shape[-3], head_dim, heads * head_dim)


@dataclass(frozen=True, eq=False)
class Bound:
    """One mechanism and the values of all its options.

    Attributes:
        mechanism: which one.
        options: by name, none left out.
    """

    mechanism: "Mechanism"
    options: Mapping[str, Any]
    _builder_takes: frozenset[str]
    _prepare_takes: frozenset[str]
    _weigh_takes: frozenset[str]
    _built: Rule | None = None

    @classmethod
    def of(cls, mechanism: "Mechanism", options: Mapping[str, Any]) -> "Bound":
        """The mechanism with these options; what a mask or a number may be is checked by what is made of it."""
        mask = options.get("mask", masks.full)
        if not isinstance(mask, Mask):
            raise OptionError(
                where=mechanism.name,
                what=f"mask is one of attnkit.masks; got {type(mask).__name__}",
                fix="mask=masks.causal, or mask=masks.full to read the whole of a memory",
            )
        takes = (taken(mechanism.builder), taken(mechanism.prepare), taken(mechanism.weigh))
        return cls(mechanism, dict(options), *takes)

    def prepared(self, tensors: Tensors, sizes: Sizes, *, q_start: int, kv_start: int = 0) -> Tensors:
        """The tensors after what happens to each token by itself.

        Args:
            tensors: query, key, value and the mechanism's parts, by name.
            sizes: of the layer.
            q_start: the position of the first query.
            kv_start: the position of the first key.
        """
        if self.mechanism.prepare is not None:
            places = {
                "q_pos": numbered(tensors["query"], q_start),
                "kv_pos": numbered(tensors["key"], kv_start),
            }
            given = self._given(tensors, sizes) | places
            tensors = tensors | self.mechanism.prepare(**picked(self._prepare_takes, given))
        if self.mechanism.rule is not None and (positions := self.rule(tensors, sizes).positions):
            query, key = tensors["query"], tensors["key"]
            turned = {"query": positions.rotate(query, numbered(query, q_start))}
            tensors = tensors | turned | {"key": positions.rotate(key, numbered(key, kv_start))}
        return tensors

    def attended(
        self,
        tensors: Tensors,
        sizes: Sizes,
        *,
        mask: Mask | None,
        q_start: int,
        dropout: float = 0.0,
    ) -> Tensor:
        """The context of tensors that are prepared; `mask` hides more than the mechanism, dropout acts if not 0."""
        query, key, value = (tensors[name] for name in ("query", "key", "value"))
        if self.mechanism.rule is not None:
            rule = self._masked_rule(tensors, sizes, mask)
            if dropout:
                rule = replace(rule, dropout=dropout)
            return rule(query, key, value, q_start=q_start, training=dropout > 0)
        if self.mechanism.recurrence is not None:
            self._check_start(query, key, q_start)
            return self.advanced(tensors, sizes, state=None, mask=mask)[0]
        given = self._given(tensors, sizes) | {
            "q_start": q_start,
            "dropout": dropout,
            "mask": self.mask(mask),
        }
        return self.mechanism.builder(**picked(self._builder_takes, given))

    def advanced(
        self, tensors: Tensors, sizes: Sizes, *, state: Any, mask: Mask | None, kv_start: int = 0
    ) -> tuple[Tensor, Any]:
        """The context of a recurrence whose tensors are prepared, and the state to go on with.

        Args:
            tensors: of the new tokens alone, by name.
            sizes: of the layer.
            state: what an earlier call gave; None where nothing has been read before.
            mask: which tokens are left out, in the positions of the whole sequence.
            kv_start: the position of the first new token.

        Raises:
            OptionError: the mask hides a token from some of the later ones alone.
        """
        query, key, value = (tensors[name] for name in ("query", "key", "value"))
        keep = tokens_kept(self.mechanism.name, mask, key, kv_start)
        gates: dict[str, Any] = self.gates(tensors, sizes)
        return self.recurrence(sizes).run(query, key, value, state=state, keep=keep, **gates)

    def weighed(self, tensors: Tensors, sizes: Sizes, *, mask: Mask | None, q_start: int) -> Tensor:
        """The weights of tensors that are prepared, `*batch heads q_len kv_len`."""
        query, key = tensors["query"], tensors["key"]
        if self.mechanism.rule is not None:
            rule = self._masked_rule(tensors, sizes, mask)
            return rule.inspect(query, key, q_start=q_start).weights()
        if self.mechanism.recurrence is not None:
            self._check_start(query, key, q_start)
            keep = tokens_kept(self.mechanism.name, mask, key)
            return self.recurrence(sizes).weights(query, key, keep=keep, **self.gates(tensors, sizes))
        if self.mechanism.weigh is not None:
            given = self._given(tensors, sizes) | {"q_start": q_start, "mask": self.mask(mask)}
            return self.mechanism.weigh(**picked(self._weigh_takes, given))
        rows = torch.eye(key.shape[-2], dtype=key.dtype, device=key.device).expand(*key.shape[:-1], -1)
        return self.attended(tensors | {"value": rows}, sizes, mask=mask, q_start=q_start)

    def finished(self, mixed: Tensor, tensors: Tensors, sizes: Sizes) -> Tensor:
        """What the mechanism makes of values that its weights have mixed; tensors are prepared."""
        finish = self.mechanism.finish
        return (
            mixed if finish is None else finish(mixed, **picked(taken(finish), self._given(tensors, sizes)))
        )

    def recurrence(self, sizes: Sizes) -> Recurrence:
        """The recurrence of a mechanism that is one."""
        assert self.mechanism.recurrence is not None
        return self.mechanism.recurrence(**picked(self._builder_takes, self._given({}, sizes)))

    def gates(self, tensors: Tensors, sizes: Sizes) -> Tensors:
        """Those of the tensors that are gates of the recurrence."""
        return picked(frozenset(gate.name for gate in self.recurrence(sizes).gates), tensors)

    @property
    def turns(self) -> bool:
        """Whether a rule that is built once turns query and key by their positions."""
        return self._built is not None and self._built.positions is not None

    @property
    def drops(self) -> bool:
        """Whether dropout has weights to act on."""
        return self.mechanism.rule is not None or "dropout" in self._builder_takes

    def mask(self, more: Mask | None = None) -> Mask:
        """What a mechanism that is no rule hides, and `more`."""
        own = self.options.get("mask", masks.full)
        return own if more is None else own & more

    def own_mask(self, tensors: Tensors, sizes: Sizes) -> Mask:
        """Where the mechanism looks."""
        if self.mechanism.recurrence is not None:
            return masks.causal
        if self.mechanism.rule is None or "mask" in self.options:
            return self.mask()
        return self.rule(tensors, sizes).mask

    def is_causal(self, tensors: Tensors, sizes: Sizes) -> bool:
        """Whether no token reads a later one, as far as a few tokens tell. Only a mask with parts needs `tensors`."""
        mask = self.own_mask(tensors, sizes)
        length = min(_PROBED, mask.known_positions or _PROBED)
        return not mask.dense(length, length, device=torch.device("cpu")).triu(1).any()

    def _check_start(self, query: Tensor, key: Tensor, q_start: int) -> None:
        if q_start and query.shape[-2] == key.shape[-2]:
            raise OptionError(
                where=self.mechanism.name,
                what=f"the query and the key of a token stand at one position; got q_start={q_start}",
                fix="leave q_start out; what came before these tokens comes as a state",
            )

    def fixed(self, sizes: Sizes) -> "Bound":
        """The same for one layer, with its rule built once where nothing that is learned or projected goes into it."""
        given = {"query", "key", "value"} | {part.name for part in self.mechanism.parts}
        if self.mechanism.rule is None or self._builder_takes & given:
            return self
        return replace(self, _built=self.rule({}, sizes))

    def rule(self, tensors: Tensors, sizes: Sizes) -> Rule:
        """The rule of a mechanism that is one."""
        if self._built is not None:
            return self._built
        assert self.mechanism.rule is not None
        return self.mechanism.rule(**picked(self._builder_takes, self._given(tensors, sizes)))

    def _masked_rule(self, tensors: Tensors, sizes: Sizes, mask: Mask | None) -> Rule:
        rule = self.rule(tensors, sizes)  # its positions have acted when the tensors were prepared
        if mask is None and rule.positions is None:
            return rule
        return replace(rule, positions=None, mask=rule.mask if mask is None else rule.mask & mask)

    def _given(self, tensors: Tensors, sizes: Sizes) -> dict[str, Any]:
        return {**vars(sizes), **self.options, **tensors}
