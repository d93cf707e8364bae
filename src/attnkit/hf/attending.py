"""The attention function: a rule, with all that a model of transformers says of this call.

mask        the model's and the rule's, both
scores      the model's soft cap and position bias, then the rule's steps
sinks       the model's; a rule with a normalizer of its own has no place for them
scale       the rule's where it has one, else the model's
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from attnkit import masks, scores
from attnkit.converters.table import Table
from attnkit.errors import OptionError, ShapeError, need
from attnkit.hf.masking import moved
from attnkit.hf.unwritten import Unwritten
from attnkit.masks import Mask
from attnkit.normalizers import Normalizer, Softmax
from attnkit.rule import Rule
from attnkit.scores import Additive, ScoreStep

# what some models pass that changes what attention computes, and that no rule here knows
_REFUSED = ("head_mask", "indices", "block_indices", "sinks", "cu_seq_lens_q", "cu_seq_lens_k")
_SHIFTED = (scores.Alibi, scores.RelativeBias, scores.SoftCap)


@dataclass(frozen=True, eq=False)
class Added(Additive):
    """What is added to the scores of one call.

    Attributes:
        tensor: (batch or 1, heads or 1, q_len, kv_len).
        q_start: the position of its first row.
    """

    tensor: Tensor
    q_start: int

    def parameters(self) -> tuple[Tensor, ...]:
        """The tensor."""
        return (self.tensor,)

    def bias(self, head: Tensor, q_pos: Tensor, kv_pos: Tensor) -> Tensor:
        """Its rows and columns."""
        return self.tensor[..., q_pos - self.q_start, kv_pos]


RuleOf = Callable[[Tensor, Tensor], Rule]


def attention_of(name: str, rule_of: RuleOf) -> Callable[..., tuple[Tensor, Tensor | None]]:
    """What transformers calls in each layer, by the rule for a query and key; errors say `name`."""

    def attend(
        module: nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None = None,
        **said: Any,
    ) -> tuple[Tensor, Tensor | None]:
        check_said(name, said)
        rule, call = rule_of(query, key), Call(name, module, query, key, attention_mask, said)
        whole = replace(
            rule,
            mask=call.mask(rule.mask),
            scores=call.steps(rule.scores),
            normalizer=call.normalizer(rule.normalizer),
            scale=said.get("scaling") if rule.scale is None else rule.scale,
            dropout=said.get("dropout", 0.0),
        )
        context = whole(query, key, value, q_start=call.q_start, training=whole.dropout > 0)
        context = context.transpose(1, 2).contiguous()
        if not (said.get("output_attentions") or weights_are_collected()):
            return context, None
        return context, whole.inspect(query, key, q_start=call.q_start).weights().to(query.dtype)

    return attend


@dataclass(frozen=True, eq=False)
class Call:
    """What a model says of the pairs of one call.

    Attributes:
        name: of the attention, for errors.
        module: the layer.
        query: (batch, heads, q_len, head_dim).
        key: (batch, kv_heads, kv_len, head_dim).
        given: the model's mask: as our mask function made it, or written out by others; None for none.
        said: what else the model says, by name.
    """

    name: str
    module: nn.Module
    query: Tensor
    key: Tensor
    given: Tensor | None
    said: Mapping[str, Any]

    @property
    def q_start(self) -> int:
        """The position of the first query, counted from the first key."""
        if isinstance(self.given, Unwritten):
            return self.given.q_start
        return self.key.shape[-2] - self.query.shape[-2]

    def mask(self, own: Mask) -> Mask:
        """What the model and the rule keep."""
        given, starts, first = self.given, None, 0
        if isinstance(given, Unwritten):
            self._check_lengths(given)
            theirs, starts, first = given.mask, given.starts, given.first
        elif given is not None:
            theirs = Table(self._kept(given), self.q_start)
        else:
            theirs = self._unsaid()
        if not own.relative and starts is not None and bool(starts.any()):
            return theirs & moved(own, first - starts)  # a text begins after its padding
        return theirs & moved(own, first)

    def _unsaid(self) -> Mask:
        """What a layer keeps that is given no mask: the past where it hides the future, in its window if it has one."""
        causal, window = self.said.get("is_causal"), self.said.get("sliding_window")
        if causal is None:
            causal = getattr(self.module, "is_causal", True)
        keeps = masks.causal if causal else masks.full
        return keeps if window is None else keeps & masks.window(window)

    def steps(self, own: Sequence[ScoreStep]) -> tuple[ScoreStep, ...]:
        """What happens to the scores: the model's soft cap and biases, and then what the rule does.

        Raises:
            OptionError: a step may count positions from a key that is not there any more.
        """
        first = self.given.first if isinstance(self.given, Unwritten) else 0
        counting = [step for step in own if not _knows_distances_alone(step)]
        if first and counting:
            raise OptionError(
                where=self.name,
                what=f"a cache has let go of the first {first} keys, and {counting[0]!r} may count from there",
                fix='a step that is known by distances alone, such as scores.Alibi, or cache_implementation="dynamic"',
            )
        softcap, position_bias = self.said.get("softcap"), self.said.get("position_bias")
        model: list[ScoreStep] = [] if softcap is None else [scores.SoftCap(softcap)]
        added = [] if position_bias is None else [position_bias]
        if self.given is not None and self.given.is_floating_point():
            added.append(self.given.masked_fill(self.given <= torch.finfo(self.given.dtype).min, 0.0))
        model += [Added(tensor, self.q_start) for tensor in added if tensor.any() or tensor.requires_grad]
        return (*model, *own)

    def normalizer(self, own: Normalizer) -> Normalizer:
        """How rows become weights: as the rule says, with the model's sinks.

        Raises:
            OptionError: there are sinks, and the rule has a normalizer of its own.
        """
        sink = self.said.get("s_aux")
        if sink is None:
            return own
        if own != Softmax():
            raise OptionError(
                where=self.name,
                what=f"the model has learned sinks, and the rule normalises by {own!r}",
                fix="a rule without a normalizer keeps the model's own",
            )
        return Softmax(sink=sink)

    def _kept(self, given: Tensor) -> Tensor:
        """The bools (batch or 1, q_len, kv_len) of a mask that others have written out."""
        if given.dim() != 4 or given.shape[-2] not in (1, self.query.shape[-2]):
            self._refuse_shape(given)
        if given.shape[-1] != self.key.shape[-2]:
            self._refuse_shape(given)
        kept = given if given.dtype == torch.bool else given > torch.finfo(given.dtype).min
        if kept.shape[1] != 1 and not bool((kept == kept[:, :1]).all()):
            raise OptionError(
                where=self.name,
                what=f"attention_mask {tuple(given.shape)} keeps other pairs for other heads",
                fix="floats that are added to the scores may differ by head: give a finite number instead of hiding",
            )
        return kept[:, 0].expand(-1, self.query.shape[-2], -1)

    def _check_lengths(self, given: Unwritten) -> None:
        if tuple(given.shape[-2:]) != (self.query.shape[-2], self.key.shape[-2]):
            self._refuse_shape(given)

    def _refuse_shape(self, given: Tensor) -> None:
        raise ShapeError(
            where=self.name,
            what=f"attention_mask {tuple(given.shape)} is for other queries and keys than there are, "
            f"{self.query.shape[-2]} and {self.key.shape[-2]}",
            fix="2-D: one number a token, those in the cache included; 4-D: (batch, 1, q_len, kv_len)",
        )


def weights_are_collected() -> bool:
    """Whether the model is asked for its weights: not every model tells its layers of `output_attentions`.

    The one private name of transformers that is read here; where it is gone, the layers that are told still answer.
    """
    capturing = need("transformers.utils", extra="hf", where="hf")
    collector = getattr(getattr(capturing, "output_capturing", None), "_active_collector", None)
    collected = collector.get() if collector is not None else None
    return any("attentions" in key for key in collected or ())


def check_said(name: str, said: Mapping[str, Any]) -> None:
    """Refuse what a model says and no rule here knows.

    Raises:
        OptionError: it says something.
    """
    for argument in _REFUSED:
        if said.get(argument) is not None:
            raise OptionError(
                where=name,
                what=f"the model passes {argument}, which changes what attention computes and is not known here",
                fix='attn_implementation="eager" for this model; packed texts are told apart by position_ids',
            )


def _knows_distances_alone(step: ScoreStep) -> bool:
    return isinstance(step, _SHIFTED) or (isinstance(step, Additive) and step.relative)
