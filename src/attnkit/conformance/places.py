"""Where the numbers of a reference's parameter stand in a target: in rows of a parameter, or of several.

    query.weight = qkv.weight[0:24]              rows of one
    in_proj_weight = (q.weight, k.weight)        one under another

The trap: a linear layer's weight is (d_out, d_in), a bare parameter and a `Conv1D`'s weight are (d_in, d_out).
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attnkit.conformance.reference import WHERE
from attnkit.errors import OptionError, unknown_name

Numbers = Mapping[str, Tensor]


@dataclass(frozen=True)
class Piece:
    """Some rows of one parameter.

    Attributes:
        name: of the parameter of the target.
        rows: which, in order; None for all.
        turned: whether it stands the other way round, (d_in, d_out).
    """

    name: str
    rows: tuple[int, ...] | None = None
    turned: bool = False

    def of(self, numbers: Numbers) -> Tensor:
        """The numbers."""
        whole = numbers[self.name].mT if self.turned else numbers[self.name]
        return whole if self.rows is None else whole[list(self.rows)]

    def add_to(self, numbers: dict[str, Tensor], more: Tensor) -> None:
        """Add to these numbers, which are changed in place."""
        whole = numbers[self.name].mT if self.turned else numbers[self.name]
        if self.rows is None:
            whole += more
        else:
            whole.index_add_(0, torch.tensor(self.rows), more)

    def __str__(self) -> str:
        if self.rows is None:
            return self.name
        first, last = self.rows[0], self.rows[-1] + 1
        whole = self.rows == tuple(range(first, last))
        return f"{self.name}[{first}:{last}]" if whole else f"{len(self.rows)} rows of {self.name}"


@dataclass(frozen=True)
class Place:
    """Where the numbers of one parameter of a reference come from; of no piece, they are zero.

    Attributes:
        pieces: one under another.
    """

    pieces: tuple[Piece, ...] = ()

    def of(self, numbers: Numbers, like: Tensor) -> Tensor:
        """The numbers; zeros like the parameter where there are none."""
        return (
            torch.cat([piece.of(numbers) for piece in self.pieces]) if self.pieces else torch.zeros_like(like)
        )

    def shape(self, numbers: Numbers, like: Tensor) -> tuple[int, ...] | None:
        """The shape of the numbers; None where the pieces have no shape together."""
        try:
            return tuple(self.of(numbers, like).shape)
        except (IndexError, RuntimeError):
            return None

    def add_to(self, numbers: dict[str, Tensor], more: Tensor) -> None:
        """Add to these numbers, in place, each row to where it came from."""
        first = 0
        for piece in self.pieces:
            count = len(piece.of(numbers))
            piece.add_to(numbers, more[first : first + count])
            first += count

    def __str__(self) -> str:
        return ", ".join(map(str, self.pieces)) or "zero"


def is_turned(module: nn.Module, name: str) -> bool:
    """Whether a matrix stands as (d_in, d_out)."""
    owner, _, leaf = name.rpartition(".")
    matrix = module.get_parameter(name).ndim == 2
    return matrix and (type(module.get_submodule(owner)).__name__ == "Conv1D" or not leaf.endswith("weight"))


def told_places(
    weights: Mapping[str, str | Sequence[str] | None], reference: nn.Module, target: nn.Module
) -> dict[str, Place]:
    """The places that were told, for each parameter of the reference; those of a submodule for all of its own.

    Raises:
        OptionError: a name stands for no rows.
        UnknownNameError: the reference or the target has no such parameter or submodule.
    """
    own, known = dict(reference.named_parameters()), dict(target.named_parameters())
    found: dict[str, Place] = {}
    for name, places in weights.items():
        texts = () if places is None else (places,) if isinstance(places, str) else tuple(places)
        if name in own:
            found[name] = Place(tuple(_piece(text, "", name, reference, target) for text in texts))
            continue
        inside = [one for one in own if one.startswith(f"{name}.")]
        if not inside:
            raise unknown_name(WHERE, "parameter or submodule of the reference", name, own)
        for one in inside:
            tail = one.removeprefix(name)
            if all(_split(text)[0] + tail in known for text in texts):
                found[one] = Place(tuple(_piece(text, tail, one, reference, target) for text in texts))
            elif not any(part.startswith(f"{_split(text)[0]}.") for text in texts for part in known):
                raise unknown_name(WHERE, "submodule of the target", ", ".join(texts), _modules(target))
    return found


def _piece(text: str, tail: str, name: str, reference: nn.Module, target: nn.Module) -> Piece:
    place, rows = _split(text)
    known = dict(target.named_parameters())
    if place + tail not in known:
        raise unknown_name(WHERE, "parameter of the target", place + tail, known)
    turned = is_turned(target, place + tail) != is_turned(reference, name)
    count = known[place + tail].shape[1 if turned else 0]
    if rows is not None and (not rows or rows[-1] >= count):
        raise OptionError(
            where=WHERE,
            what=f"{place + tail} has {count} rows; got {text!r}",
            fix=f'weights={{"{name}": "{place + tail}[0:{count}]"}}',
        )
    return Piece(place + tail, rows, turned)


def _split(text: str) -> tuple[str, tuple[int, ...] | None]:
    """The name, and the rows where some are told: "qkv.weight[0:24]"."""
    told = re.fullmatch(r"(.+)\[(\d+):(\d+)\]", text)
    return (text, None) if told is None else (told[1], tuple(range(int(told[2]), int(told[3]))))


def _modules(module: nn.Module) -> Iterator[str]:
    return (name for name, _ in module.named_modules() if name)
