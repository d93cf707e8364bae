"""Score steps: how a score is changed after scaling and before it is normalised.

    changed = step(score, head, q_pos, kv_pos)

Any callable will do. One that only adds is better an `Additive`: it also gives what it adds, which faster backends
can take along. A step never hides a key: -inf that is *added* leaves nan in the gradients; that is what masks are for.
"""

from attnkit.scores.alibi import Alibi
from attnkit.scores.bias import Bias
from attnkit.scores.relative import RelativeBias
from attnkit.scores.softcap import SoftCap
from attnkit.scores.step import Additive, ScoreStep, check_bias, stepped

__all__ = ["Additive", "Alibi", "Bias", "RelativeBias", "ScoreStep", "SoftCap", "check_bias", "stepped"]
