"""A checkpoint in memory: its settings, and its tensors, each of which is taken once.

state = source.linear("norm", "ln_f")       theirs under our name; what nobody takes is an error in the end
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from attnkit.errors import DtypeError, OptionError, ShapeError
from attnkit.models.loading.settings import WHERE, Settings

State = dict[str, Tensor]
_OTHER = "are these settings those of another model?"


class Source:
    """The settings and tensors of a checkpoint; a tensor that is taken is not there any more.

    Args:
        path: the folder or file.
        settings: what it says of its model.
        tensors: by the names that Hugging Face gives them.
        shown: what such a name is in the file, for messages.
    """

    def __init__(
        self,
        path: Path,
        settings: Settings,
        tensors: Mapping[str, Tensor],
        shown: Callable[[str], str] = str,
    ) -> None:
        self.path, self.settings, self._tensors, self._shown = path, settings, dict(tensors), shown
        self._prefix, self._outside = "", ""
        self._origins: dict[str, str] = {}

    def drop_prefix(self, prefix: str, *, outside: str = "") -> None:
        """Take `prefix` off the names that begin with it: a model saved with a head has one more level.

        Args:
            prefix: such as "model.".
            outside: how names begin that never have it, such as those of the head.

        Raises:
            OptionError: a name is there with and without it.
        """
        begin = [name for name in self._tensors if name.startswith(prefix)]
        for name in begin:
            short = name.removeprefix(prefix)
            if short in self._tensors:
                raise OptionError(
                    where=WHERE,
                    what=f"{self.path} has {short!r} and {name!r}, two tensors for one",
                    fix="download it again, or save the model anew",
                )
            self._tensors[short] = self._tensors.pop(name)
        self._prefix, self._outside = prefix if begin else "", outside

    @property
    def names(self) -> list[str]:
        """The tensors that are left."""
        return list(self._tensors)

    def has(self, name: str) -> bool:
        """Whether a tensor is there."""
        return name in self._tensors

    def take(self, name: str, *shape: int) -> Tensor:
        """One tensor, of `shape` where that is given.

        Raises:
            ShapeError: it is not there, or of another shape.
            DtypeError: it holds no floats.
        """
        if name not in self._tensors:
            ending = name.rsplit(".", 2)[-2:]
            near = [other for other in self._tensors if other.rsplit(".", 2)[-2:] == ending]
            raise ShapeError(
                where=WHERE,
                what=f"{self.path} has no tensor {self._name(name)}",
                fix=f"there is {self._name(near[0])}; {_OTHER}" if near else _OTHER,
            )
        tensor = self._tensors.pop(name)
        if shape and tensor.shape != shape:
            raise ShapeError(where=WHERE, what=self._unlike(name, tensor, shape), fix=_OTHER)
        if not tensor.is_floating_point() or tensor.element_size() < 2:
            raise DtypeError(
                where=WHERE,
                what=f"{self.path}: {self._name(name)} holds {tensor.dtype}; weights are float16 or wider",
                fix="a checkpoint that is not quantised",
            )
        return tensor

    def tensor(self, ours: str, theirs: str) -> State:
        """One tensor under our name."""
        self._origins[ours] = theirs
        return {ours: self.take(theirs)}

    def linear(self, ours: str, theirs: str) -> State:
        """A linear map's weight and, where there is one, bias, under our name."""
        self._origins[f"{ours}.bias"] = f"{theirs}.bias"
        found = self.tensor(f"{ours}.weight", f"{theirs}.weight")
        if self.has(f"{theirs}.bias"):
            found |= self.tensor(f"{ours}.bias", f"{theirs}.bias")
        return found

    def renamed(self, ours: str, theirs: str, names: Mapping[str, str]) -> State:
        """Linear maps and norms, all with `ours` and `theirs` before their names."""
        state: State = {}
        for name, there in names.items():
            state |= self.linear(f"{ours}.{name}", f"{theirs}.{there}")
        return state

    def other(self, ours: str, theirs: str, table: Tensor, *, tied: bool) -> State:
        """A tensor under our name where it is not `table`, or else nothing.

        Files may hold a tensor of its own although their settings say `tied`; as in transformers, the file is right.
        """
        if tied and not self.has(theirs):
            return {}
        found = self.take(theirs)
        if tied and same(found, table):
            return {}
        self._origins[ours] = theirs
        return {ours: found}

    def fitting(self, state: State, ours: str, *shape: int) -> Tensor:
        """A tensor of the state, to reckon with.

        Raises:
            ShapeError: it is not there, or of another shape.
        """
        given = state.get(ours)
        if given is None:
            raise self.misfit(ours, None, None)
        if given.shape != shape:
            raise ShapeError(where=WHERE, what=self._unlike(self._origins[ours], given, shape), fix=_OTHER)
        return precise(given)

    def skip(self, *endings: str) -> None:
        """Forget tensors whose names end so: tables that are computed, or parts that our models do not have."""
        self._tensors = {name: t for name, t in self._tensors.items() if not name.endswith(endings)}

    def skip_parts(self, *beginnings: str) -> None:
        """Forget tensors whose names begin so."""
        self._tensors = {name: t for name, t in self._tensors.items() if not name.startswith(beginnings)}

    def check_layers(self) -> None:
        """Refuse settings with more layers than there are tensors, before anything is made of them.

        Raises:
            ShapeError: there are more.
        """
        for name in ("num_hidden_layers", "n_layer", "num_layers", "num_decoder_layers"):
            layers = self.settings.get(name, default=0)
            if isinstance(layers, int) and layers > len(self._tensors):
                raise ShapeError(
                    where=WHERE,
                    what=f"{self.settings.place}: {name} is {layers}; {self.path} has {len(self._tensors)} tensors",
                    fix=_OTHER,
                )

    def check_used_up(self) -> None:
        """Refuse tensors that nothing has taken.

        Raises:
            ShapeError: there are some.
        """
        if self._tensors:
            names = [self._name(name) for name in sorted(self._tensors)]
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ShapeError(
                where=WHERE,
                what=f"{self.path} has tensors that a model with its settings has not: {', '.join(names[:3])}{more}",
                fix=_OTHER,
            )

    def misfit(self, ours: str, given: Tensor | None, wanted: Tensor | None) -> ShapeError:
        """The error for a tensor that the model has no place for, that is missing, or of another shape."""
        theirs = self._origins.get(ours)
        known = f"tensor for {ours}" if theirs is None else f"tensor {self._name(theirs)}"
        if given is None:
            what = f"{self.path} has no {known}"
        elif wanted is None:
            what = f"{self.path} has the {known}, which a model with its settings has not"
        else:
            what = self._unlike(theirs or ours, given, tuple(wanted.shape))
        return ShapeError(where=WHERE, what=what, fix=_OTHER)

    def _name(self, name: str) -> str:
        whole = self._outside and name.startswith(self._outside)
        return repr(self._shown(name if whole else self._prefix + name))

    def _unlike(self, name: str, given: Tensor, wanted: tuple[int, ...]) -> str:
        return (
            f"{self.path}: {self._name(name)} has shape {tuple(given.shape)}; "
            f"by {self.settings.place} it is {tuple(wanted)}"
        )


def precise(tensor: Tensor) -> Tensor:
    """A tensor to reckon with: in float32 at least."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def same(table: Tensor, other: Tensor) -> bool:
    """Whether two tensors hold the same numbers."""
    return table is other or (table.dtype == other.dtype and torch.equal(table, other))
