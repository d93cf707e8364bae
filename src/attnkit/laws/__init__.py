"""Laws: what can be true of a mechanism, as functions `law(mechanism, **options)` that raise where it is not."""

from attnkit.laws.own import (
    no_future_leak,
    reads_just,
    reduces_to,
    rows_sum_to_at_most_one,
    rows_sum_to_one,
    when,
)
from attnkit.laws.trial import LawBrokenError, Trial, check
from attnkit.laws.universal import UNIVERSAL

__all__ = [
    "UNIVERSAL",
    "LawBrokenError",
    "Trial",
    "check",
    "no_future_leak",
    "reads_just",
    "reduces_to",
    "rows_sum_to_at_most_one",
    "rows_sum_to_one",
    "when",
]
