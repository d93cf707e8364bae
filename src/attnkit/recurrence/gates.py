"""Gates: numbers from 0 to 1, for each token or for each of its channels, that a recurrence is given in each call."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from attnkit.errors import DtypeError, OptionError, ShapeError, unknown_name
from attnkit.shapes import type_of

_TAKEN_BY = {"decay": "Decay, GatedLinear and GatedDelta fade", "beta": "Delta and GatedDelta correct"}


@dataclass(frozen=True)
class Gate:
    """One gate of a recurrence. It is a plain number and no logarithm, so that 0 and its gradient are exact.

    Attributes:
        name: the argument that it is given as.
        axes: its last axes; each has the size of the key's, or 1 where all share one number.
        meaning: what the number is, for messages.
    """

    name: str
    axes: tuple[str, ...]
    meaning: str

    def fitted(self, where: str, gate: Tensor | None, key: Tensor) -> Tensor:
        """The gate as `*batch kv_heads len size`, where size is 1 or head_dim.

        Its values are looked at where that is cheap and possible: on a CPU, outside of torch.compile and vmap.

        Raises:
            OptionError: it is missing, or a value is outside of 0 to 1.
            DtypeError: it is no tensor of floats on the device of the key.
            ShapeError: its axes are not those of the key.
        """
        if gate is None:
            raise OptionError(
                where=where, what=f"{self.name} is missing, {self.meaning}", fix=self._example(key)
            )
        if not isinstance(gate, Tensor) or not gate.is_floating_point():
            raise DtypeError(
                where=where,
                what=f"{self.name} must be a tensor of floats; got {type_of(gate)}",
                fix=self._example(key),
            )
        if gate.device != key.device:
            raise DtypeError(
                where=where,
                what=f"one device for all; got {self.name} on {gate.device}, key on {key.device}",
                fix=f"{self.name}.to(key.device)",
            )
        self._check_axes(where, gate, key)
        self._check_values(where, gate)
        full = gate if len(self.axes) == 3 else gate.unsqueeze(-1)
        return full.expand(*key.shape[:-1], full.shape[-1])

    def _check_axes(self, where: str, gate: Tensor, key: Tensor) -> None:
        wanted = key.shape[: key.dim() - 3 + len(self.axes)]
        fits = len(self.axes) <= gate.dim() <= len(wanted) and all(
            size == 1 or size == most
            for size, most in zip(reversed(gate.shape), reversed(wanted), strict=False)
        )
        if not fits:
            raise ShapeError(
                where=where,
                what=f"{self.name} {tuple(gate.shape)} does not fit key {tuple(key.shape)}; it is "
                f"(*batch, {', '.join(self.axes)}), and an axis is 1 where all share one number",
                fix=f"{tuple(wanted)}; or {self._a_head(key)} for one number a head",
            )

    def _check_values(self, where: str, gate: Tensor) -> None:
        extremes = _extremes(gate)
        if extremes is None or 0 <= extremes[0] <= extremes[1] <= 1:
            return
        fix = f"{self.name}=raw.sigmoid() is always within"
        if extremes[1] <= 0:
            fix = f"these look like logarithms: {self.name}=log_{self.name}.exp()"
        raise OptionError(
            where=where,
            what=f"{self.name} is {self.meaning}, from 0 to 1; got values from {extremes[0]:.4g} to {extremes[1]:.4g}",
            fix=fix,
        )

    def _example(self, key: Tensor) -> str:
        return f"{self.name}=torch.full({self._a_head(key)}, 0.9) is the same for all tokens of a head"

    def _a_head(self, key: Tensor) -> tuple[int, ...]:
        return (key.shape[-3], *(1 for _ in self.axes[1:]))


def fitted_gates(
    where: str, gates: Sequence[Gate], given: Mapping[str, Tensor | None], key: Tensor
) -> tuple[Tensor, ...]:
    """Every gate that there is, in the order of `Tokens`, as `*batch kv_heads len size`; 1 where it is not taken.

    Raises:
        UnknownNameError: there is no such gate.
        OptionError: one is missing, or not taken.
    """
    taken = {gate.name: gate for gate in gates}
    for name, gate in given.items():
        if name not in _TAKEN_BY and name not in taken:
            raise unknown_name(where, "gate", name, taken or _TAKEN_BY)
        if gate is not None and name not in taken:
            takes = " and ".join(taken) or "no gate"
            fix = f"leave {name} out; {_TAKEN_BY[name]}"
            raise OptionError(where=where, what=f"it takes {takes}; got {name}", fix=fix)
    one = torch.ones_like(key[..., :1])
    return tuple(
        taken[name].fitted(where, given.get(name), key) if name in taken else one for name in _TAKEN_BY
    )


def _extremes(gate: Tensor) -> tuple[float, float] | None:
    """The smallest and the largest value, or None where they cannot be looked at, or only by waiting for a device."""
    if torch.compiler.is_compiling() or gate.device.type != "cpu" or not gate.numel():
        return None
    low, high = torch.aminmax(gate.detach())
    try:
        return low.item(), high.item()
    except RuntimeError:  # vmap and other tracers keep their values to themselves
        return None
