"""The tokenizer of a checkpoint: `tokenizer.json` of a folder, or what a GGUF file holds of it.

load_tokenizer("model.gguf").encode("The capital of France is").ids
"""

from pathlib import Path
from typing import Any

from attnkit.errors import OptionError, need
from attnkit.models.loading.folder import check_folder
from attnkit.models.loading.gguf_file import GGUFFile
from attnkit.models.loading.packed import is_gguf
from attnkit.models.loading.settings import WHERE, Settings

_CONTROL, _ADDED = 3, 4


def load_tokenizer(path: str | Path) -> Any:
    """What cuts a text into tokens of the model at `path`.

    Args:
        path: a folder or GGUF file, as `load` takes it.

    Returns:
        A `tokenizers.Tokenizer`.

    Raises:
        OptionError: there is none, it cannot be read, or it is of a kind that is not known.
        MissingExtraError: tokenizers is not installed.
    """
    path = Path(path)
    packed = is_gguf(path)
    tokenizers = need("tokenizers", extra="gguf" if packed else "hf", where="load_tokenizer")
    if not packed:
        check_folder(path)
        path = path / "tokenizer.json"
        if not path.exists():
            raise OptionError(
                where="load_tokenizer", what=f"{path} is missing", fix="download the whole checkpoint"
            )
    try:
        return _of_gguf(tokenizers, path) if packed else tokenizers.Tokenizer.from_file(str(path))
    except OptionError:
        raise
    except Exception as broken:  # tokenizers raises Exception itself
        raise OptionError(
            where="load_tokenizer", what=f"{path} holds no tokenizer: {broken}", fix="download it again"
        ) from broken


def _of_gguf(tokenizers: Any, path: Path) -> Any:
    told = Settings(f"the header of {path}", GGUFFile(path).values)
    told.chosen("tokenizer.ggml.model", {"gpt2": "bytes"})
    pre = told.chosen("tokenizer.ggml.pre", {"smollm": "digits", "gpt-2": "plain"}, default="gpt-2")
    words, pairs = _texts(told, "tokenizer.ggml.tokens"), _texts(told, "tokenizer.ggml.merges")
    kinds = told.get("tokenizer.ggml.token_type", default=[])
    merges = [tuple(pair.split(" ", 1)) for pair in pairs]
    vocabulary = {word: number for number, word in enumerate(words)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocabulary, merges))
    cut = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pre == "digits":
        cut = tokenizers.pre_tokenizers.Sequence(
            [tokenizers.pre_tokenizers.Digits(individual_digits=True), cut]
        )
    tokenizer.pre_tokenizer = cut
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    special = [word for word, kind in zip(words, kinds, strict=False) if kind in (_CONTROL, _ADDED)]
    tokenizer.add_special_tokens([tokenizers.AddedToken(word, normalized=False) for word in special])
    return tokenizer


def _texts(told: Settings, name: str) -> list[str]:
    given = told.get(name)
    if not isinstance(given, list) or not all(isinstance(word, str) for word in given):
        raise OptionError(
            where=WHERE, what=f"{told.place}: {name} is no list of texts", fix="download it again"
        )
    return given
