"""Right attention with one thing done wrong, many times: what `check` is proven on."""

from tests.mutants import base, behaviour, cached, functions, heads, masks, positions, weights

__all__ = [
    "CONTROLS",
    "MUTANTS",
    "base",
    "behaviour",
    "cached",
    "functions",
    "heads",
    "masks",
    "positions",
    "weights",
]

MUTANTS = tuple(base.MUTANTS)
CONTROLS = (*base.controls(), *functions.RIGHT)
