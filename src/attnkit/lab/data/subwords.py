"""Parts of words as numbers: the pairs of letters that stand together most often become one, again and again."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnkit.errors import need
from attnkit.lab.checkpoint import replace_file
from attnkit.lab.data.fetching import DataError

PAD, START, END = 0, 1, 2
_SPECIAL = ["[pad]", "[start]", "[end]"]


class Subwords:
    """A vocabulary of parts of words that is learned from texts, and kept in a file.

    Args:
        tokenizer: of the package tokenizers.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @classmethod
    def learned(cls, texts: Sequence[str], size: int, file: Path) -> "Subwords":
        """The vocabulary in `file`, or else one of `size` entries learned from `texts` and kept there.

        Raises:
            DataError: the file holds none.
        """
        package = need("tokenizers", extra="lab", where="lab")
        if file.is_file():
            try:
                return cls(package.Tokenizer.from_file(str(file)))
            except Exception as trouble:  # the package raises nothing narrower
                raise DataError(
                    where="lab", what=f"{file} holds no vocabulary: {trouble}", fix="--fresh makes a new one"
                ) from trouble
        tokenizer = package.Tokenizer(package.models.BPE())
        tokenizer.pre_tokenizer = package.pre_tokenizers.ByteLevel(add_prefix_space=True)
        tokenizer.decoder = package.decoders.ByteLevel()
        alphabet = package.pre_tokenizers.ByteLevel.alphabet()
        trainer = package.trainers.BpeTrainer(
            vocab_size=size, special_tokens=_SPECIAL, initial_alphabet=alphabet, show_progress=False
        )
        tokenizer.train_from_iterator(texts, trainer)
        replace_file(file, tokenizer.to_str(pretty=True).encode())
        return cls(tokenizer)

    def __len__(self) -> int:
        return self.tokenizer.get_vocab_size()

    def encode(self, text: str) -> list[int]:
        """The numbers of a text, with one that says where it starts and one where it ends."""
        return [START, *self.tokenizer.encode(text).ids, END]

    def decode(self, numbers: Sequence[int]) -> str:
        """The text of numbers, up to its end."""
        kept = list(numbers)
        return self.tokenizer.decode(kept[: kept.index(END)] if END in kept else kept).strip()

    def pieces(self, numbers: Sequence[int]) -> list[str]:
        """The part of a word that each number stands for."""
        return [
            _SPECIAL[number] if number <= END else self.tokenizer.decode([number]).strip()
            for number in numbers
        ]


def side_by_side(texts: Sequence[Sequence[int]]) -> tuple[Tensor, Tensor]:
    """Texts of unequal length as (batch, longest), padded on the right, and True where there is a token."""
    longest = max(map(len, texts))
    tokens = torch.tensor([[*text, *[PAD] * (longest - len(text))] for text in texts])
    return tokens, torch.tensor([[True] * len(text) + [False] * (longest - len(text)) for text in texts])
