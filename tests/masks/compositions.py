"""Random masks for the property tests: every kind, combined to a depth of three, for one sample or a batch."""

import torch
from hypothesis import strategies as st

from attnkit import masks

BATCH = (2,)
IDS = 13


def small(lowest=1, highest=9):
    return st.integers(lowest, highest)


def ids(highest):
    """The ids of a row of tokens; with few documents, they come back."""
    return st.lists(st.integers(0, highest), min_size=IDS, max_size=IDS)


def sorted_ids():
    """A row in which no document comes back."""
    return ids(4).map(sorted)


def packings(rows):
    """Documents of one row for all samples, or of a row a sample."""
    return (rows | st.tuples(*[rows] * BATCH[0]).map(list)).map(masks.documents)


def lengths():
    return st.lists(small(0, 14), min_size=BATCH[0], max_size=BATCH[0])


HALF_PLANES = (
    st.just(masks.causal),
    small().map(masks.window),
    small().map(masks.first),
    small().map(masks.first_queries),
    lengths().map(masks.lengths),
)
EXACT = (*HALF_PLANES, packings(ids(2)), packings(sorted_ids()), st.just(masks.full))
RELATIVES = (
    st.just(masks.causal),
    st.just(masks.full),
    small().map(masks.window),
    small(1, 4).map(masks.strided),
    st.builds(masks.dilated, small(1, 3), small(1, 4)),
    small().map(masks.band),
)


def own(parity):
    return masks.where(lambda q, k: (q + k) % 3 != parity)


def own_in_a_batch(parity):
    table = torch.tensor([parity, parity + 1])
    return masks.where(lambda q, k: (q * k + table.reshape(2, *[1] * max(q.dim(), k.dim()))) % 3 != 0)


BLOCKS = (
    small(1, 5).map(masks.blocks),
    st.builds(masks.random_blocks, small(1, 4), small(1, 3), seed=small(0, 99)),
    st.builds(masks.random_blocks, small(1, 4), small(1, 3), seed=small(0, 99), length=small(1, 20)),
)
ANY = (
    *EXACT,
    *RELATIVES,
    *BLOCKS,
    st.builds(masks.segments, small(1, 5), before=small(0, 6), after=small(0, 6)),
    st.builds(masks.neighborhood, st.tuples(small(3, 6), small(3, 6)), st.just((3, 3))),
    st.builds(masks.along, st.tuples(small(2, 6), small(2, 6)), small(0, 1)),
    (small() | lengths()).map(masks.prefix),
    small(0, 2).map(own),
    small(0, 2).map(own_in_a_batch),
)
ATOMS = {"half-planes": HALF_PLANES, "exact": EXACT, "relative": RELATIVES, "blocks": BLOCKS, "any": ANY}


@st.composite
def combined(draw, atoms, depth, signs):
    """Compositions of the atoms of that name, up to a depth, by the signs given."""
    sign = draw(st.sampled_from(("", *signs))) if depth else ""
    if not sign:
        return draw(st.one_of(*ATOMS[atoms]))
    left = draw(combined(atoms, depth - 1, signs))
    if sign == "~":
        return ~left
    right = draw(combined(atoms, depth - 1, signs))
    return left & right if sign == "&" else left | right


@st.composite
def pairs(draw):
    """Two half-planes or their opposites, with a sign between."""
    left, right = (draw(st.one_of(*HALF_PLANES)) for _ in range(2))
    left, right = (~mask if draw(st.booleans()) else mask for mask in (left, right))
    return left & right if draw(st.booleans()) else left | right


compositions = combined("any", 3, "&|~")
