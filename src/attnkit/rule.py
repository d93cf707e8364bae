"""A rule: one mechanism of the softmax family, as a value that can be called, explained and inspected.

context = normalize(steps(scale * rotate(query) @ rotate(key).T), mask) @ value
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from attnkit import masks, normalizers
from attnkit.choice import Explanation, choose, explained
from attnkit.errors import OptionError
from attnkit.inputs import check_inputs, check_scale
from attnkit.inspection import Inspection
from attnkit.masks.mask import instead_of
from attnkit.positions import Positions
from attnkit.positions.position import numbered
from attnkit.request import Request
from attnkit.scores import ScoreStep
from attnkit.shapes import Context, Key, Query, Value, check_dropout


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Where to look, how to score, how to normalise. Nothing here is learned or stored between calls.

    Attributes:
        mask: where each query may look; `masks.full` when not given.
        scores: what happens to the scaled scores, in order; callables `(score, head, q_pos, kv_pos)`.
        normalizer: how a row of scores becomes weights.
        positions: turns query and key by where they stand, such as `positions.Rotary()`; None leaves them.
        scale: multiplies the scores; `head_dim ** -0.5` when not given.
        dropout: the share of weights to drop, from 0 to 1; acts only in a call with `training=True`.

    Raises:
        OptionError: an option has a value that means nothing.

    Example:
        >>> rule = Rule(mask=masks.causal)
        >>> query = key = value = torch.ones(1, 1, 3, 2)
        >>> rule(query, key, value).shape
        torch.Size([1, 1, 3, 2])
    """

    # None here, not the objects: torch.compile cannot carry an object as a default.
    mask: masks.Mask = None  # pyright: ignore[reportAssignmentType]
    scores: Sequence[ScoreStep] = ()
    normalizer: normalizers.Normalizer = None  # pyright: ignore[reportAssignmentType]
    positions: Positions | None = None
    scale: float | None = None
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.mask is None:
            object.__setattr__(self, "mask", masks.full)
        if self.normalizer is None:
            object.__setattr__(self, "normalizer", normalizers.Softmax())
        if not isinstance(self.mask, masks.Mask):
            raise OptionError(
                where="Rule",
                what=f"mask is one of attnkit.masks; got {type(self.mask).__name__}",
                fix=instead_of(self.mask),
            )
        if not isinstance(self.scores, Sequence) or not all(
            callable(step) and not isinstance(step, type) for step in self.scores
        ):
            raise OptionError(
                where="Rule",
                what=f"scores is a sequence of callables (score, head, q_pos, kv_pos); got {self.scores!r}",
                fix="scores=(my_step,), with the comma, where my_step is a function or a value such as scores.Alibi(8)",
            )
        object.__setattr__(self, "scores", tuple(self.scores))
        if not isinstance(self.normalizer, normalizers.Normalizer):
            raise OptionError(
                where="Rule",
                what=f"normalizer is one of attnkit.normalizers; got {self.normalizer!r}",
                fix="normalizer=normalizers.Softmax(), with the brackets",
            )
        if self.positions is not None and not isinstance(self.positions, Positions):
            raise OptionError(
                where="Rule",
                what=f"positions is one of attnkit.positions; got {self.positions!r}",
                fix="positions=positions.Rotary(); a bias by position is a score step, scores=(scores.Alibi(8),)",
            )
        check_scale("Rule", self.scale)
        check_dropout("Rule", self.dropout, fix="dropout=0.1 drops one in ten")

    def __repr__(self) -> str:
        told = {"mask": self.mask, "scores": self.scores, "normalizer": self.normalizer}
        told |= {"positions": self.positions, "scale": self.scale, "dropout": self.dropout}
        silent = {
            "scores": (),
            "normalizer": normalizers.Softmax(),
            "positions": None,
            "scale": None,
            "dropout": 0.0,
        }
        return (
            f"Rule({', '.join(f'{k}={v!r}' for k, v in told.items() if k not in silent or v != silent[k])})"
        )

    def __call__(
        self,
        query: Query,
        key: Key,
        value: Value,
        *,
        q_start: int | None = None,
        backend: str | None = None,
        training: bool = False,
        generator: torch.Generator | None = None,
    ) -> Context:
        """Mix `value` by how well each `query` matches each `key`.

        Args:
            query: `*batch heads q_len head_dim`.
            key: `*batch kv_heads kv_len head_dim`; query head h reads kv head `h // (heads // kv_heads)`.
            value: `*batch kv_heads kv_len d_value`.
            q_start: the position of the first query, in tokens; `kv_len - q_len` when not given.
            backend: "sdpa", "tiled", "flex" or "eager" to insist; it then runs or refuses, and nothing stands in
                for it. When not given, the one that runs and is estimated to be fastest.
            training: lets dropout act.
            generator: what dropout draws from, for results that can be repeated.

        Returns:
            The context, `*batch heads q_len d_value`. A query with nothing to read gets zeros.

        Raises:
            ShapeError: axes do not fit together.
            DtypeError: inputs are no floats, or not of one dtype and device.
            OptionError: `q_start` is no whole number.
            BackendError: the backend insisted on cannot run this.
            UnknownNameError: there is no such backend.
        """
        request = self._request(query, key, value, q_start, training, generator)
        return choose(request, backend).run(request)

    def explain(
        self,
        query: Query,
        key: Key,
        value: Value,
        *,
        q_start: int | None = None,
        training: bool = False,
        generator: torch.Generator | None = None,
    ) -> Explanation:
        """Which backends can run this rule on these inputs, why the others cannot, and which is chosen.

        Shapes and errors as in calling the rule. No context is computed.
        """
        request = self._request(query, key, value, q_start, training, generator)
        _ = replace(
            request, query=query[..., :1, :]
        ).keep  # a mask that a call would refuse is refused here too
        return explained(_told(self, request), request)

    def inspect(self, query: Query, key: Key, *, q_start: int | None = None) -> Inspection:
        """What the fast path does not return: weights, rows of them, entropy, log-sum-exp.

        Shapes and errors as in calling the rule. Nothing is computed until the result is asked.
        """
        request = self._request(query, key, key, q_start)
        precise = torch.promote_types(query.dtype, torch.float32)
        query, key = query.detach().to(precise), key.detach().to(precise)
        return Inspection(replace(request, query=query, key=key, value=key))

    def _request(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        q_start: int | None,
        training: bool = False,
        generator: torch.Generator | None = None,
    ) -> Request:
        check_inputs("Rule", query, key, value)
        _check_call(q_start, generator)
        start = key.shape[-2] - query.shape[-2] if q_start is None else q_start
        if self.positions is not None:
            query = self.positions.rotate(query, numbered(query, start))
            key = self.positions.rotate(key, numbered(key, 0))
        scale = query.shape[-1] ** -0.5 if self.scale is None else self.scale
        if scale <= 0:
            # fused kernels scale what they have hidden as well, and -inf times such a number is no -inf
            query, scale = query * scale, 1.0
        return Request(
            query=query,
            key=key,
            value=value,
            mask=self.mask,
            steps=self.scores,
            normalizer=self.normalizer,
            scale=scale,
            dropout=self.dropout if training else 0.0,
            q_start=start,
            generator=generator,
        )


def _check_call(q_start: object, generator: object) -> None:
    if q_start is not None and not isinstance(q_start, int | torch.SymInt):
        raise OptionError(
            where="Rule",
            what=f"q_start is one whole number, the position of the first query; got {q_start!r}",
            fix="q_start=int(position); samples that stand at different positions need a call each",
        )
    if generator is not None and not isinstance(generator, torch.Generator):
        raise OptionError(
            where="Rule",
            what=f"generator is a torch.Generator, which dropout draws from; got {generator!r}",
            fix="generator=torch.Generator().manual_seed(3)",
        )


def _told(rule: Rule, request: Request) -> str:
    shapes = ", ".join(f"{name} {tuple(getattr(request, name).shape)}" for name in ("query", "key", "value"))
    dtype = str(request.query.dtype).removeprefix("torch.")
    return f"{rule!r}\non {shapes}, {dtype}, {request.query.device.type}, first query at position {request.q_start}"
