"""Recurrences: mechanisms whose past is a memory of fixed size, so that each further token costs the same.

    memory_t = update(memory_{t-1}, key_t, value_t, gates_t);    context_t = query_t memory_t

Gates are plain numbers from 0 to 1; other libraries take their logarithms. The weights are multiplied by
`head_dim ** -0.5` unless `scale=` says otherwise; the papers' equations leave that out, their code does not.
"""

from attnkit.recurrence.additive import (
    Decay,
    DecayState,
    GatedLinear,
    GatedLinearState,
    Linear,
    LinearState,
    retention_decay,
)
from attnkit.recurrence.delta import Delta, DeltaState, GatedDelta, GatedDeltaState
from attnkit.recurrence.gates import Gate
from attnkit.recurrence.inspection import RecurrenceInspection
from attnkit.recurrence.orders import Stretch, Tokens
from attnkit.recurrence.recurrence import Recurrence

__all__ = [
    "Decay",
    "DecayState",
    "Delta",
    "DeltaState",
    "Gate",
    "GatedDelta",
    "GatedDeltaState",
    "GatedLinear",
    "GatedLinearState",
    "Linear",
    "LinearState",
    "Recurrence",
    "RecurrenceInspection",
    "Stretch",
    "Tokens",
    "retention_decay",
]
