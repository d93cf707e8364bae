"""A checkpoint: all that a run needs to go on as if it had never stopped, in one safetensors file.

parameters and buffers of the model, the optimizer's moments, both random states, the losses so far

It is written beside the old one and then takes its place in one step, so that a machine that stops while it writes
leaves the old one whole.
"""

import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_bytes
from torch import Tensor, nn

from attnkit.errors import AttentionError, OptionError


class CheckpointError(AttentionError):
    """A file of a run cannot be read or written."""


@dataclass
class Saved:
    """What a checkpoint holds.

    Attributes:
        model: what learns.
        optimizer: what makes its steps.
        generator: what draws the batches.
        settings: what the run was started with; a checkpoint with others is of another run.
        numbers: losses and the like, one list of floats a name.
        step: how many steps are made.
    """

    model: nn.Module
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    settings: Mapping[str, Any] = field(default_factory=dict)
    numbers: dict[str, list[float]] = field(default_factory=dict)
    step: int = 0

    def write(self, path: Path) -> None:
        """Write the checkpoint, or leave the one that is there."""
        told = {"step": str(self.step), "settings": json.dumps(dict(self.settings), sort_keys=True)}
        replace_file(path, to_bytes(self._tensors(), metadata=told))

    def read(self, path: Path) -> None:
        """Become what a checkpoint holds; an error leaves all as it was.

        Raises:
            CheckpointError: it cannot be read, or belongs to another model.
            OptionError: it is of a run with other settings.
        """
        tensors, told = _read(path)
        self._check_settings(path, json.loads(told["settings"]))
        self._check_names(path, tensors)
        with torch.no_grad():
            for name, ours in self._of_model().items():
                ours.copy_(tensors[f"model.{name}"])
        self.optimizer.load_state_dict(self._moments(tensors))
        self.generator.set_state(tensors["random.batches"])
        torch.set_rng_state(tensors["random.global"])
        self.numbers = {
            name.removeprefix("numbers."): tensor.tolist()
            for name, tensor in tensors.items()
            if name.startswith("numbers.")
        }
        self.step = int(told["step"])

    def _of_model(self) -> dict[str, Tensor]:
        """Parameters and buffers, each once: a table that reads and writes tokens has one name here."""
        return dict(self.model.named_parameters()) | dict(self.model.named_buffers())

    def _tensors(self) -> dict[str, Tensor]:
        tensors = {f"model.{name}": tensor.detach() for name, tensor in self._of_model().items()}
        for index, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{index}.{name}": value for name, value in state.items()}
        tensors["random.batches"] = self.generator.get_state()
        tensors["random.global"] = torch.get_rng_state()
        for name, numbers in self.numbers.items():
            tensors[f"numbers.{name}"] = torch.tensor(numbers, dtype=torch.float64)
        return {name: tensor.contiguous() for name, tensor in tensors.items()}

    def _moments(self, tensors: Mapping[str, Tensor]) -> dict[str, Any]:
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in tensors.items():
            kind, _, rest = name.partition(".")
            if kind == "optimizer":
                index, _, of = rest.partition(".")
                state.setdefault(int(index), {})[of] = tensor
        return {"state": state, "param_groups": self.optimizer.state_dict()["param_groups"]}

    def _check_settings(self, path: Path, theirs: dict[str, Any]) -> None:
        ours = json.loads(json.dumps(dict(self.settings)))
        for name in sorted({*ours, *theirs}):
            if ours.get(name) != theirs.get(name):
                raise OptionError(
                    where="lab",
                    what=f"{path} is of a run with {name}={theirs.get(name)!r}; now it is {ours.get(name)!r}",
                    fix="--fresh begins anew in this folder, --folder takes another",
                )

    def _check_names(self, path: Path, tensors: Mapping[str, Tensor]) -> None:
        for name, ours in self._of_model().items():
            theirs = tensors.get(f"model.{name}")
            if theirs is None or theirs.shape != ours.shape:
                there = "is not there" if theirs is None else f"has shape {tuple(theirs.shape)}"
                raise CheckpointError(
                    where="lab",
                    what=f"in {path}, {name} {there}; this model needs {tuple(ours.shape)}",
                    fix="--fresh begins anew in this folder, --folder takes another",
                )


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, "pt") as file:
            told = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118, it is no mapping
    except (OSError, SafetensorError) as trouble:
        raise CheckpointError(
            where="lab",
            what=f"{path} cannot be read: {trouble}",
            fix="--fresh begins anew in this folder",
        ) from trouble
    if not {"step", "settings"} <= told.keys():
        raise CheckpointError(
            where="lab", what=f"{path} is no checkpoint of a run", fix="--folder takes another folder"
        )
    return tensors, told


def replace_file(path: Path, content: bytes) -> None:
    """Give a file new content, so that at each moment it has the old one or the new one, whole.

    Raises:
        CheckpointError: it cannot be written; the old one is there.
    """
    try:
        _replace(path, content)
    except OSError as trouble:
        raise CheckpointError(
            where="lab", what=f"{path} cannot be written: {trouble}", fix="--folder takes another folder"
        ) from trouble


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
