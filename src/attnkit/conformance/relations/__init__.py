"""The checks: what is true of any attention that is right, whatever its parameters are."""

from attnkit.conformance.relations import (
    caches,
    constants,
    dead_rows,
    dropout,
    gradients,
    heads,
    influence,
    later,
    layout,
    memories,
    padding,
    paths,
    positions,
    precision,
    projections,
    purity,
    queries,
    samples,
    scale,
    softmax,
)

__all__ = ["CHECKS"]

CHECKS = (
    *influence.CHECKS,
    *later.CHECKS,
    *padding.CHECKS,
    *paths.CHECKS,
    *memories.CHECKS,
    *queries.CHECKS,
    *dead_rows.CHECKS,
    *softmax.CHECKS,
    *heads.CHECKS,
    *scale.CHECKS,
    *positions.CHECKS,
    *constants.CHECKS,
    *projections.CHECKS,
    *samples.CHECKS,
    *purity.CHECKS,
    *precision.CHECKS,
    *layout.CHECKS,
    *gradients.CHECKS,
    *dropout.CHECKS,
    *caches.CHECKS,
)
