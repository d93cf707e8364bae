"""Characters as numbers."""

from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.lab.data.fetching import DataError


@dataclass(frozen=True)
class Characters:
    """The characters of a text, numbered.

    Attributes:
        known: all of them, in order.
    """

    known: str

    @classmethod
    def of(cls, text: str) -> "Characters":
        """Those of a text."""
        return cls("".join(sorted(set(text))))

    def __len__(self) -> int:
        return len(self.known)

    def encode(self, text: str) -> Tensor:
        """The numbers (len(text),).

        Raises:
            DataError: a character is not known.
        """
        numbers = {character: number for number, character in enumerate(self.known)}
        strange = sorted(set(text) - numbers.keys())
        if strange:
            raise DataError(
                where="lab",
                what=f"the text that was learned from has no {strange[0]!r} (U+{ord(strange[0]):04X})",
                fix=f"only {self.known[:40]!r} and the like",
            )
        return torch.tensor([numbers[character] for character in text])

    def decode(self, numbers: Tensor) -> str:
        """The characters of numbers (len,)."""
        return "".join(self.known[number] for number in numbers.tolist())
