"""Rotary positions as Hugging Face's settings tell them, old and new.

    "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, ...}
    "rope_theta": 500000.0, "rope_scaling": {"type": "linear", "factor": 2.0}

DeepSeek stretches by YaRN with two more numbers: turned vectors grow by the quotient of their magnitudes, and all
scores by the square of the second.
"""

import math
from typing import Any

from attnkit.models.loading.settings import Settings
from attnkit.positions import Linear, Llama3, Rotary, Yarn
from attnkit.positions.scaling import Scaling

_KINDS = {name: name for name in ("default", "linear", "llama3", "yarn")}


def rotary(settings: Settings, layout: str = "halves") -> Rotary:
    """The positions of a model.

    Args:
        settings: all of the model's.
        layout: which numbers turn together.

    Raises:
        OptionError: they are of a kind that is not known.
    """
    told = settings.within("rope_parameters", "rope_scaling")
    told.expect(partial_rotary_factor=1.0)
    settings.expect(partial_rotary_factor=1.0)
    base = told.number("rope_theta", default=settings.number("rope_theta", default=10_000.0))
    return Rotary(base=base, layout=layout, scaling=_SCALINGS[_kind(told)](settings, told))


def score_factor(settings: Settings) -> float:
    """What DeepSeek multiplies all scores by, besides the usual scale."""
    told = settings.within("rope_parameters", "rope_scaling")
    if _kind(told) == "default" or not told.get("mscale_all_dim", default=0):
        return 1.0
    return _magnitude(told.number("factor"), told.number("mscale_all_dim")) ** 2


def _kind(told: Settings) -> str:
    name = "type" if told.get("rope_type", default=None) is None else "rope_type"
    return told.chosen(name, _KINDS, default="default")


def _trained(settings: Settings, told: Settings) -> int:
    """How many tokens the texts had that the model was trained on, before it was stretched."""
    usual = settings.whole("original_max_position_embeddings", "max_position_embeddings")
    return told.whole("original_max_position_embeddings", default=usual)


def _none(settings: Settings, told: Settings) -> None:
    return None


def _linear(settings: Settings, told: Settings) -> Scaling:
    return Linear(told.number("factor"))


def _llama3(settings: Settings, told: Settings) -> Scaling:
    return Llama3(
        told.number("factor"),
        low_frequency_factor=told.number("low_freq_factor"),
        high_frequency_factor=told.number("high_freq_factor"),
        original_tokens=_trained(settings, told),
    )


def _yarn(settings: Settings, told: Settings) -> Scaling:
    factor, given = told.number("factor"), told.get("attention_factor", default=None)
    if given is None and told.get("mscale", default=0) and told.get("mscale_all_dim", default=0):
        given = _magnitude(factor, told.number("mscale")) / _magnitude(factor, told.number("mscale_all_dim"))
    return Yarn(
        factor,
        original_tokens=_trained(settings, told),
        fast_turns=told.number("beta_fast", default=32.0),
        slow_turns=told.number("beta_slow", default=1.0),
        attention_factor=given,
        truncate=told.flag("truncate", default=True),
    )


_SCALINGS: dict[str, Any] = {"default": _none, "linear": _linear, "llama3": _llama3, "yarn": _yarn}


def _magnitude(factor: int | float, weight: int | float) -> float:
    return 0.1 * weight * math.log(factor) + 1.0 if factor > 1 else 1.0
