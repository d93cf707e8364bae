"""A checkpoint as one of our models: which kind it is, its state, and every tensor in its place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from attnkit.errors import DtypeError, UnknownNameError
from attnkit.models.loading.both import t5
from attnkit.models.loading.decoders import deepseek_v3, gemma2, gpt2, llama
from attnkit.models.loading.encoders import albert, bert
from attnkit.models.loading.folder import check_folder, read_folder
from attnkit.models.loading.images import dinov2, vit
from attnkit.models.loading.packed import is_gguf, read_gguf
from attnkit.models.loading.settings import WHERE
from attnkit.models.loading.source import Source

FAMILIES: dict[str, Callable[[Source], tuple[Any, dict[str, Tensor]]]] = {
    "albert": albert,
    "bert": bert,
    "deepseek_v3": deepseek_v3,
    "dinov2": dinov2,
    "gemma2": gemma2,
    "gpt2": gpt2,
    "llama": llama,
    "mistral": llama,
    "qwen3": llama,
    "t5": t5,
    "vit": vit,
}


def load(path: str | Path, *, dtype: torch.dtype = torch.float32) -> Any:
    """A model with its weights, in evaluation mode, every tensor in its place.

    Args:
        path: a folder with `config.json` and `model.safetensors`, or several files and their index, in the layout of
            Hugging Face; or a GGUF file.
        dtype: what the parameters become, whatever the file holds.

    Returns:
        A `Decoder`, `Encoder`, `EncoderDecoder` or `VisionTransformer`.

    Raises:
        UnknownNameError: it is of a kind that is not known here.
        OptionError: a file is missing, cut off, a pickle or something else; or a setting is not known.
        ShapeError: a tensor is missing, left over, or of another shape.
        DtypeError: a tensor holds no floats, or numbers that `dtype` cannot hold.
        MissingExtraError: safetensors is not installed, or gguf for a GGUF file.
    """
    if not dtype.is_floating_point:
        raise DtypeError(where=WHERE, what=f"parameters are floats; got {dtype}", fix="dtype=torch.float32")
    path = Path(path)
    if is_gguf(path):
        source = read_gguf(path)
    else:
        check_folder(path)
        source = read_folder(path)
    kind = _kind(source)
    with torch.device("meta"):  # settings that lie about sizes take no memory
        model, state = FAMILIES[kind](source)
    source.check_used_up()
    _assign(source, model, {name: _converted(source, name, tensor, dtype) for name, tensor in state.items()})
    return model.eval()


def _kind(source: Source) -> str:
    settings = source.settings
    kind = settings.get("model_type")
    if not isinstance(kind, str) or kind not in FAMILIES:
        raise UnknownNameError(
            where=WHERE,
            what=f"{settings.place}: there is no kind of model {kind!r}",
            fix=f"one of {', '.join(FAMILIES)}",
        )
    if settings.get("quantization_config", default=None) is not None:
        what = "quantization_config says that numbers are packed"
        raise settings.refusal(what, "a checkpoint that is not quantised")
    source.check_layers()
    return kind


def _converted(source: Source, name: str, tensor: Tensor, dtype: torch.dtype) -> Tensor:
    # a copy: what safetensors gives is the file itself, which another program may write to or cut off
    new = tensor.to(dtype, copy=True, memory_format=torch.contiguous_format)
    if torch.finfo(dtype).max < torch.finfo(tensor.dtype).max and (new.isinf() & tensor.isfinite()).any():
        raise DtypeError(
            where=WHERE,
            what=f"{source.path}: the tensor for {name} has numbers up to {tensor.abs().max():.3g}, "
            f"and {dtype} ends at {torch.finfo(dtype).max:.3g}",
            fix="dtype=torch.bfloat16, or torch.float32",
        )
    return new


def _assign(source: Source, model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put all in its place; parameters that were one stay one."""
    places = dict(model.named_parameters(remove_duplicate=False))
    for name, tensor in state.items():
        place = places.get(name)
        if place is None or place.shape != tensor.shape:
            raise source.misfit(name, tensor, place)
    new = {id(places[name]): nn.Parameter(tensor) for name, tensor in state.items()}
    for name, place in places.items():
        if id(place) not in new:
            raise source.misfit(name, None, place)
    for name, place in places.items():
        module, _, leaf = name.rpartition(".")
        setattr(model.get_submodule(module), leaf, new[id(place)])
