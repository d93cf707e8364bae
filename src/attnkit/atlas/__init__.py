"""What can be told of a mechanism by looking at it: a sketch of its weights, what it costs, what it becomes."""

from attnkit.atlas.cost import Cost, Costs, costs, layer_of, why_undecodable
from attnkit.atlas.draw import Draw, fitted
from attnkit.atlas.kin import Reduction, reductions, tree
from attnkit.atlas.pairs import kept_pairs
from attnkit.atlas.sketch import Sketch, sketched

__all__ = [
    "Cost",
    "Costs",
    "Draw",
    "Reduction",
    "Sketch",
    "costs",
    "fitted",
    "kept_pairs",
    "layer_of",
    "reductions",
    "sketched",
    "tree",
    "why_undecodable",
]
