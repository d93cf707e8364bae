"""A checkpoint in a folder, as Hugging Face lays it out, read without running anything that is in it.

    config.json                      what kind of model it is, and its sizes
    model.safetensors                its tensors; or several files that model.safetensors.index.json lists

Pickles (`pytorch_model.bin`, `.pt`) can run code when they are opened, so they are not opened.
"""

import json
from pathlib import Path
from typing import Any

from torch import Tensor

from attnkit.errors import OptionError, need
from attnkit.models.loading.settings import WHERE, Settings
from attnkit.models.loading.source import Source

_WHOLE = "model.safetensors"
_INDEX = "model.safetensors.index.json"
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.pkl", "*.ckpt")
_AGAIN = "download it again"


def read_folder(folder: Path) -> Source:
    """The checkpoint in a folder.

    Raises:
        OptionError: a file is missing, cut off, or not what its name says.
        MissingExtraError: safetensors is not installed.
    """
    place = folder / "config.json"
    settings = Settings(str(place), _json(place))
    listed = (folder / _INDEX).exists() and not (folder / _WHOLE).exists()
    tensors = _shards(folder) if listed else read_tensors(folder / _WHOLE)
    return Source(folder, settings, tensors)


def check_folder(path: Path) -> None:
    """Refuse what is no folder.

    Raises:
        OptionError: there is nothing of this name, or a file.
    """
    if path.is_dir():
        return
    fix = "give the folder that holds config.json and model.safetensors, or a .gguf file"
    if not path.exists():
        raise OptionError(where=WHERE, what=f"there is no {path}", fix=fix)
    if is_pickle(path):
        raise OptionError(
            where=WHERE, what=f"{path} is a pickle, which can run code", fix=_converted(path.name)
        )
    raise OptionError(where=WHERE, what=f"{path} is a file, and no GGUF", fix=fix)


def is_pickle(path: Path) -> bool:
    """Whether a file begins as pickles do, bare or in the zip file that `torch.save` makes."""
    with path.open("rb") as file:
        begin = file.read(9)
    # safetensors begins with a length, which may look like a pickle, and then an object of JSON
    bare = begin[:1] == b"\x80" and begin[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and begin[8:] != b"{"
    return bare or begin[:4] == b"PK\x03\x04"


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of one safetensors file.

    Raises:
        OptionError: it is missing, cut off, or something else.
        MissingExtraError: safetensors is not installed.
    """
    safetensors = need("safetensors.torch", extra="hf", where=WHERE)
    if not path.exists():
        pickles = [other.name for pattern in _PICKLES for other in sorted(path.parent.glob(pattern))]
        fix = _converted(pickles[0]) if pickles else "download the checkpoint again; it is not whole"
        raise OptionError(where=WHERE, what=f"{path} is missing", fix=fix)
    if path.is_file() and is_pickle(path):
        raise OptionError(
            where=WHERE, what=f"{path} is a pickle, not what its name says", fix=_converted(path.name)
        )
    try:
        return safetensors.load_file(path)
    except Exception as broken:  # safetensors raises errors of several kinds for files that lie
        raise OptionError(
            where=WHERE,
            what=f"{path} cannot be read as safetensors: {broken}",
            fix=f"{_AGAIN}: it is cut off, damaged, or something else under this name",
        ) from broken


def _shards(folder: Path) -> dict[str, Tensor]:
    """The tensors of all files that the index lists, each from the file where the index has it."""
    index = folder / _INDEX
    listed = _json(index).get("weight_map")
    if (
        not isinstance(listed, dict)
        or not listed
        or not all(isinstance(name, str) for name in listed.values())
    ):
        raise OptionError(where=WHERE, what=f"{index} has no weight_map from tensors to files", fix=_AGAIN)
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(listed.values())):
        if Path(name).name != name or "\\" in name or name in ("", ".."):
            raise OptionError(
                where=WHERE,
                what=f"{index} names the file {name!r}, which is not in its folder",
                fix=f"{_AGAIN}, and only from where you trust it",
            )
        found = read_tensors(folder / name)
        for tensor in sorted(set(found) ^ {key for key, file in listed.items() if file == name}):
            what = "has the tensor, and the index does not list it" if tensor in found else "does not have it"
            raise OptionError(
                where=WHERE, what=f"{index} and {name} differ about {tensor!r}: the file {what}", fix=_AGAIN
            )
        tensors |= found
    return tensors


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as missing:
        raise OptionError(
            where=WHERE, what=f"{path} is missing", fix="give the folder of a whole checkpoint"
        ) from missing
    except (ValueError, OSError, RecursionError) as broken:
        raise OptionError(where=WHERE, what=f"{path} is no JSON: {broken}", fix=_AGAIN) from broken
    if not isinstance(found, dict):
        raise OptionError(where=WHERE, what=f"{path} holds a {type(found).__name__}, no object", fix=_AGAIN)
    return found


def _converted(name: str) -> str:
    return (
        f"{name} is a pickle, which can run code and is not opened; where you trust it, convert it:\n"
        f"    tensors = torch.load({name!r}, weights_only=True, map_location='cpu')\n"
        "    tensors = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}\n"
        f"    safetensors.torch.save_file(tensors, {_WHOLE!r})"
    )
