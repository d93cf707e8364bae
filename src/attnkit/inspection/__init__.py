"""What fused attention does not return: weights, rows and pools of them, entropy, log-sum-exp, what each key receives.

    rule.inspect(query, key).entropy()

All but the full weights need no q_len x kv_len tensor, and cost what the mask keeps.
"""

from attnkit.inspection.inspection import Inspection
from attnkit.inspection.pooling import Pooled

__all__ = ["Inspection", "Pooled"]
