"""Gated attention: each token turns down what its heads have read, by a sigmoid of its own.

    context = sigmoid(x W_gate) * softmax(Q K^T / sqrt(head_dim)) V

The gate comes from the token that asks, not from those that are read, and acts before the last projection.
"elementwise" gates each number of a head, which the paper found best and Qwen3-Next uses; "headwise" gates a head as a
whole. A head need not pass on anything, so it needs no sink. Qwen3-Next projects query and gate together: of each
head's 2 head_dim numbers, the second half is the gate. It also normalises query and key, as `qk_norm` does.
"""

import torch
from torch import Tensor

from attnkit import masks
from attnkit.errors import ShapeError, unknown_name
from attnkit.laws import no_future_leak, reduces_to
from attnkit.masks import Mask
from attnkit.mechanism import Mechanism, Paper, Projected
from attnkit.mechanisms import causal
from attnkit.rule import Rule
from attnkit.shapes import Context, Key, Query, Value, Weights

GATINGS = ("elementwise", "headwise")


def gated(
    query: Query,
    key: Key,
    value: Value,
    *,
    q_start: int,
    gate: Tensor,
    gating: str = "elementwise",
    mask: Mask = masks.causal,
    dropout: float = 0.0,
) -> Context:
    """The context.

    Args:
        query: `*batch heads q_len head_dim`.
        key: `*batch kv_heads kv_len head_dim`.
        value: `*batch kv_heads kv_len d_value`.
        q_start: the position of the first query.
        gate: `*batch heads q_len d_value`, or `*batch heads q_len 1` where it is headwise; from 0 to 1.
        gating: "elementwise", a gate for each number of a head; or "headwise", one for each head.
        mask: where each query looks.
        dropout: the share of weights to drop.
    """
    _check_gate(gate, _width(gating, value.shape[-1]), gating)
    rule = Rule(mask=mask, dropout=dropout)
    return finish(rule(query, key, value, q_start=q_start, training=dropout > 0), gate=gate)


def weigh(query: Query, key: Key, *, q_start: int, mask: Mask) -> Weights:
    """The weights before the gate, `*batch heads q_len kv_len`."""
    return Rule(mask=mask).inspect(query, key, q_start=q_start).weights()


def finish(mixed: Context, *, gate: Tensor) -> Context:
    """The mixed values, gated."""
    return mixed * gate


def _check_gate(gate: Tensor, width: int, gating: str) -> None:
    if gate.shape[-1] != width:
        raise ShapeError(
            where="gated",
            what=f"a gate that is {gating} has {width} numbers a head here; got gate {tuple(gate.shape)}",
            fix='gating="headwise" takes (*batch, heads, q_len, 1), "elementwise" as many as value has',
        )


def _width(gating: object, d_value: int) -> int:
    if gating not in GATINGS:
        raise unknown_name("gated", "gating", gating, GATINGS)
    return 1 if gating == "headwise" else d_value


MECHANISM = Mechanism(
    name="gated",
    family="heads",
    summary="Each token turns down what its heads have read, by a sigmoid of its own.",
    formula=r"C = \sigma(x W_{\mathrm{gate}}) \odot \mathrm{softmax}(Q K^T / \sqrt{d}) \, V",
    paper=Paper(
        "Gated Attention for Large Language Models: Non-linearity, Sparsity, and Attention-Sink-Free",
        2025,
        "https://arxiv.org/abs/2505.06708",
        "equation 5, position G1",
    ),
    attend=gated,
    weigh=weigh,
    finish=finish,
    parts=(
        # as wide as the gate, also where a law draws values of another width
        Projected("value", of="key", heads="num_kv_heads", width=lambda sizes, _: sizes.head_dim),
        Projected(
            "gate",
            of="query",
            width=lambda sizes, options: _width(options["gating"], sizes.head_dim),
            then=torch.sigmoid,
            meaning="how much of what is read goes on",
        ),
    ),
    laws=(no_future_leak, reduces_to(causal.MECHANISM, parts={"gate": torch.ones_like})),
    examples=({}, {"gating": "headwise"}),
)
