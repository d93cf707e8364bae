"""Stretching rotary positions, so that a model reads texts longer than those of its training.

    frequency'_i = frequency_i * ((1 - keep_i) / factor + keep_i)

`Linear` keeps none, keep = 0; `Llama3` and `Yarn` keep fast pairs, which turn often within a training text, and slow
down the others. `NTK` raises the base instead. None of them looks at the length of the text at hand: where frequencies
change with it ("dynamic" NTK), keys in a cache were turned by other ones than the query that reads them.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass
from typing import Any

import torch
from torch import Tensor

from attnkit.errors import OptionError


class Scaling(ABC):
    """How the frequencies of rotary positions change."""

    @abstractmethod
    def scaled(self, frequencies: Tensor, base: int | float) -> Tensor:
        """The changed frequencies.

        Args:
            frequencies: `base ** (-2 * i / rotary_dim)` for i from 0, (rotary_dim / 2,), in radians a token.
            base: what they were made from.
        """

    @property
    def magnitude(self) -> float:
        """What every turned vector is multiplied by; scores grow by its square."""
        return 1.0


@dataclass(frozen=True)
class Linear(Scaling):
    """Position interpolation: every position is divided by `factor`.

    Attributes:
        factor: at least 1.

    Raises:
        OptionError: `factor` is no finite number from 1 upwards.

    Example:
        >>> Linear(4.0).scaled(torch.tensor([1.0, 0.1]), 100.0)
        tensor([0.2500, 0.0250])

    Source: Chen et al. 2023, https://arxiv.org/abs/2306.15595, equation 3.
    """

    factor: int | float

    def __post_init__(self) -> None:
        check_number("Linear", "factor", self.factor, least=1)

    def scaled(self, frequencies: Tensor, base: int | float) -> Tensor:
        """All of them, divided by the factor."""
        return frequencies / self.factor


@dataclass(frozen=True)
class NTK(Scaling):
    """A larger base: the slowest pair is slowed down by `factor`, the fastest not at all.

        base' = base * factor ** (rotary_dim / (rotary_dim - 2))

    Attributes:
        factor: at least 1.

    Raises:
        OptionError: `factor` is no finite number from 1 upwards; or at the call: rotary_dim is 2, one pair alone.

    Example:
        >>> NTK(4.0).scaled(torch.tensor([1.0, 0.1]), 100.0)
        tensor([1.0000, 0.0250])

    Source: "NTK-aware" interpolation in Peng et al. 2023, https://arxiv.org/abs/2309.00071, section 3.1.
    """

    factor: int | float

    def __post_init__(self) -> None:
        check_number("NTK", "factor", self.factor, least=1)

    def scaled(self, frequencies: Tensor, base: int | float) -> Tensor:
        """Those of the larger base."""
        pairs = frequencies.shape[0]
        if pairs < 2:
            raise OptionError(
                where="NTK",
                what="with rotary_dim=2 there is one pair, the fastest, and it keeps its frequency",
                fix="Linear(factor), or a rotary_dim of 4 or more",
            )
        steps = torch.arange(pairs, device=frequencies.device, dtype=frequencies.dtype) / (pairs - 1)
        return frequencies * self.factor**-steps


@dataclass(frozen=True)
class Yarn(Scaling):
    """YaRN: pairs that turn often in a training text are kept, rare ones slowed, and scores sharpened.

        keep_i = 1 - clamp((i - low) / (high - low), 0, 1)

    low and high are the pairs that turn `fast_turns` and `slow_turns` times within `original_tokens`.

    Attributes:
        factor: at least 1.
        original_tokens: the length of the texts in training.
        fast_turns: pairs that turn more often keep their frequency; `beta_fast` elsewhere.
        slow_turns: pairs that turn less often are slowed by the whole factor; `beta_slow` elsewhere.
        attention_factor: multiplies turned queries and keys, so scores grow by its square; when not given
            0.1 * ln(factor) + 1. DeepSeek's `mscale` and `mscale_all_dim` are the quotient of two such numbers.
        truncate: low and high are whole pairs, as in most models; gpt-oss says False.

    Raises:
        OptionError: a number is out of its range.

    Example:
        >>> round(Yarn(4.0, original_tokens=4096).magnitude, 4)
        1.1386

    Source: Peng et al. 2023, https://arxiv.org/abs/2309.00071, section 3, and the released code.
    """

    factor: int | float
    _: KW_ONLY
    original_tokens: int
    fast_turns: int | float = 32.0
    slow_turns: int | float = 1.0
    attention_factor: int | float | None = None
    truncate: bool = True

    def __post_init__(self) -> None:
        check_number("Yarn", "factor", self.factor, least=1)
        check_number("Yarn", "original_tokens", self.original_tokens, least=1)
        check_number("Yarn", "slow_turns", self.slow_turns)
        check_number("Yarn", "fast_turns", self.fast_turns, least=self.slow_turns)
        if self.attention_factor is not None:
            check_number("Yarn", "attention_factor", self.attention_factor)

    @property
    def magnitude(self) -> float:
        """The attention factor."""
        given = self.attention_factor
        return 0.1 * math.log(self.factor) + 1.0 if given is None else float(given)

    def scaled(self, frequencies: Tensor, base: int | float) -> Tensor:
        """Fast ones as they were, slow ones divided by the factor, and between them a ramp."""
        pairs = frequencies.shape[0]
        low, high = (
            pairs * math.log(self.original_tokens / (turns * 2 * math.pi)) / math.log(base)
            for turns in (self.fast_turns, self.slow_turns)
        )
        if self.truncate:
            low, high = math.floor(low), math.ceil(high)
        low, high = max(low, 0), min(high, 2 * pairs - 1)
        index = torch.arange(pairs, device=frequencies.device, dtype=frequencies.dtype)
        # the released code, too, widens an empty ramp by 0.001
        slowed = (index - low) / (high - low if high != low else 0.001)
        return _blended(frequencies, 1 - slowed.clamp(0, 1), self.factor)


@dataclass(frozen=True)
class Llama3(Scaling):
    """Llama 3.1's rule: by how many wavelengths fit into a training text.

        keep_i = clamp((original_tokens / wavelength_i - low) / (high - low), 0, 1),  wavelength_i = 2 pi / frequency_i

    Attributes:
        factor: at least 1; 8 in Llama 3.1, 32 in Llama 3.2.
        low_frequency_factor: low; pairs with fewer wavelengths are slowed by the whole factor.
        high_frequency_factor: high; pairs with more wavelengths keep their frequency.
        original_tokens: the length of the texts in training.

    Raises:
        OptionError: a number is out of its range.

    Example:
        >>> Llama3().scaled(torch.tensor([1.0, 1e-4]), 500_000.0)
        tensor([1.0000e+00, 1.2500e-05])

    Source: the released code of Llama 3.1, 2024, https://github.com/meta-llama/llama-models
    """

    factor: int | float = 8.0
    _: KW_ONLY
    low_frequency_factor: int | float = 1.0
    high_frequency_factor: int | float = 4.0
    original_tokens: int = 8192

    def __post_init__(self) -> None:
        check_number("Llama3", "factor", self.factor, least=1)
        check_number("Llama3", "low_frequency_factor", self.low_frequency_factor)
        check_number("Llama3", "high_frequency_factor", self.high_frequency_factor)
        check_number("Llama3", "original_tokens", self.original_tokens, least=1)
        if self.high_frequency_factor <= self.low_frequency_factor:
            raise OptionError(
                where="Llama3",
                what="high_frequency_factor is above low_frequency_factor; got "
                f"{self.high_frequency_factor!r} and {self.low_frequency_factor!r}",
                fix="low_frequency_factor=1.0, high_frequency_factor=4.0, as released",
            )

    def scaled(self, frequencies: Tensor, base: int | float) -> Tensor:
        """Fast ones as they were, slow ones divided by the factor, and between them a blend."""
        wavelengths = self.original_tokens * frequencies / (2 * math.pi)
        width = self.high_frequency_factor - self.low_frequency_factor
        keep = ((wavelengths - self.low_frequency_factor) / width).clamp(0, 1)
        return _blended(frequencies, keep, self.factor)


def check_number(
    where: str, name: str, given: Any, *, least: int | float | None = None, above: int | float = 0
) -> None:
    """Refuse an option that is no finite number from `least` upwards, or `above` a number where there is no least.

    Raises:
        OptionError: it is not.
    """
    number = isinstance(given, int | float) and not isinstance(given, bool) and given < math.inf
    if not number or not (given > above if least is None else given >= least):
        holds = f"above {above:g}" if least is None else f"from {least:g} upwards"
        raise OptionError(
            where=where, what=f"{name} is a finite number {holds}; got {given!r}", fix=_FIXES[name]
        )


_FIXES = {
    "factor": "factor=4.0 reads texts 4 times as long as in training; to stretch nothing, leave scaling out",
    "original_tokens": "original_tokens=4096, the length of the texts in training "
    "(`original_max_position_embeddings` of a checkpoint)",
    "slow_turns": "slow_turns=1.0, as in the paper",
    "fast_turns": "fast_turns=32.0, as in the paper; not fewer than slow_turns",
    "attention_factor": "leave it out for 0.1 * ln(factor) + 1; attention_factor=1.0 does nothing",
    "low_frequency_factor": "low_frequency_factor=1.0, as released",
    "high_frequency_factor": "high_frequency_factor=4.0, as released",
    "base": "base=10000.0, as in the paper (`rope_theta` of a checkpoint)",
}


def _blended(frequencies: Tensor, keep: Tensor, factor: int | float) -> Tensor:
    return frequencies * ((1 - keep) / factor + keep)
