"""Pictures of attention, in matplotlib: `pip install "attnkit[view]"`.

Every function returns a `Picture`: a white card that a notebook shows, with one sentence for whoever cannot see it.
Importing this module imports no matplotlib; the first picture does.
"""

# ruff: noqa: E402 (numpy comes with matplotlib; whoever lacks both is told so before the first import that needs one)
from attnkit.errors import need as _need

_need("numpy", extra="view", where="viewer")

from attnkit.viewer.amounts import bars, entropy, histograms
from attnkit.viewer.boxes import Box, box
from attnkit.viewer.fans import fan
from attnkit.viewer.fingerprinting import fingerprint, fingerprints
from attnkit.viewer.growth import cost, powers
from attnkit.viewer.hulls import hull
from attnkit.viewer.layout import grid
from attnkit.viewer.lines import curves
from attnkit.viewer.looking import looks
from attnkit.viewer.many import heads, sinks
from attnkit.viewer.maps import cards, mask, weights
from attnkit.viewer.picture import Picture
from attnkit.viewer.plane import mixture, vectors
from attnkit.viewer.saturated import saturation
from attnkit.viewer.split import split_columns
from attnkit.viewer.strip import steps
from attnkit.viewer.verdicts import dumbbells, pairs, table

__all__ = [
    "Box",
    "Picture",
    "bars",
    "box",
    "cards",
    "cost",
    "curves",
    "dumbbells",
    "entropy",
    "fan",
    "fingerprint",
    "fingerprints",
    "grid",
    "heads",
    "histograms",
    "hull",
    "looks",
    "mask",
    "mixture",
    "pairs",
    "powers",
    "saturation",
    "sinks",
    "split_columns",
    "steps",
    "table",
    "vectors",
    "weights",
]
