"""A GGUF file: a header of named values, a table of tensors, and their bytes, most of them quantised in small blocks.

    "GGUF" version tensor_count value_count {name kind value} {name dims kind offset} padding bytes

Every count and length in the file is held against what is left of it before anything is made of it, so that a file that
lies is refused at once. Blocks are turned into numbers by the package `gguf`.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attnkit.errors import OptionError, need
from attnkit.models.loading.settings import WHERE

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_NUMBERS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9
_MOST_DIMS = 4


@dataclass(frozen=True)
class Stored:
    """Where a tensor lies.

    Attributes:
        shape: as PyTorch counts, the last axis nearest in memory.
        kind: how numbers are packed, as the file counts.
        offset: its first byte, from where tensors begin.
    """

    shape: tuple[int, ...]
    kind: int
    offset: int


class GGUFFile:
    """The values and tensors of one file.

    Args:
        path: the file.

    Raises:
        OptionError: it is cut off, or says what cannot be.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._at = 0
        if self._read(4, "its first bytes") != MAGIC or (version := self._number("I")) not in _VERSIONS:
            raise self._broken(f"it is not GGUF of version {' or '.join(map(str, _VERSIONS))}, little-endian")
        del version
        tensors, values = self._count(24, "tensors"), self._count(13, "values")
        self.values: dict[str, Any] = {}
        for _ in range(values):
            name = self._text()
            if name in self.values:
                raise self._broken(f"it has {name!r} twice")
            self.values[name] = self._value(self._number("I"), name)
        self.tensors: dict[str, Stored] = {}
        for _ in range(tensors):
            name = self._text()
            if name in self.tensors:
                raise self._broken(f"it has {name!r} twice")
            self.tensors[name] = self._stored(name)
        alignment = self.values.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise self._broken(f"general.alignment is {alignment!r}")
        self._start = -(-self._at // alignment) * alignment

    def tensor(self, name: str) -> Tensor:
        """The numbers of a tensor, in float32.

        Raises:
            OptionError: they lie outside of the file, or are packed in a way that is not known.
            MissingExtraError: gguf is not installed.
        """
        gguf, stored = need("gguf", extra="gguf", where=WHERE), self.tensors[name]
        numpy = need("numpy", extra="gguf", where=WHERE)
        try:
            kind = gguf.GGMLQuantizationType(stored.kind)
            shape = gguf.quant_shape_to_byte_shape(stored.shape, kind)
        except ValueError as unknown:
            raise self._broken(f"{name!r} cannot be packed so: {unknown}") from unknown
        begin, size = self._start + stored.offset, math.prod(shape)
        if begin + size > len(self._bytes):
            raise self._broken(f"the {size} bytes of {name!r} begin at {begin}, of {len(self._bytes)}")
        packed = numpy.frombuffer(self._bytes, numpy.uint8, size, begin).reshape(shape)
        try:
            return torch.from_numpy(numpy.array(gguf.dequantize(packed, kind), numpy.float32))
        except NotImplementedError as unknown:
            raise self._broken(f"{name!r} is packed as {kind.name}, which gguf cannot unpack") from unknown

    def _stored(self, name: str) -> Stored:
        dims = self._number("I")
        if not 1 <= dims <= _MOST_DIMS:
            raise self._broken(f"{name!r} has {dims} axes, not 1 to {_MOST_DIMS}")
        sizes = [self._number("Q") for _ in range(dims)]
        return Stored(tuple(reversed(sizes)), self._number("I"), self._number("Q"))

    def _value(self, kind: int, name: str) -> Any:
        if kind in _NUMBERS:
            return self._number(_NUMBERS[kind])
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise self._broken(f"{name!r} is of kind {kind}, which is none")
        of = self._number("I")
        if of == _STRING:
            return [self._text() for _ in range(self._count(8, name))]
        if of not in _NUMBERS:
            raise self._broken(f"{name!r} lists values of kind {of}; numbers and texts are known here")
        code = _NUMBERS[of]
        count = self._count(struct.calcsize(code), name)
        return list(struct.unpack(f"<{count}{code}", self._read(count * struct.calcsize(code), name)))

    def _count(self, least: int, what: str) -> int:
        """How many there are, each of which takes at least so many bytes."""
        count = self._number("Q")
        if count * least > len(self._bytes) - self._at:
            raise self._broken(f"it promises {count} of {what}, more than it has bytes for")
        return count

    def _number(self, code: str) -> Any:
        return struct.unpack(f"<{code}", self._read(struct.calcsize(f"<{code}"), "a number"))[0]

    def _text(self) -> str:
        found = self._read(self._number("Q"), "a text")
        try:
            return found.decode("utf-8")
        except UnicodeDecodeError as broken:
            raise self._broken(f"a text in it is no UTF-8: {broken}") from broken

    def _read(self, count: int, what: str) -> bytes:
        if count > len(self._bytes) - self._at:
            raise self._broken(f"it ends within {what}, after {len(self._bytes)} bytes")
        self._at += count
        return self._bytes[self._at - count : self._at]

    def _broken(self, what: str) -> OptionError:
        return OptionError(
            where=WHERE,
            what=f"{self.path} cannot be read as GGUF: {what}",
            fix="download it again: it is cut off, damaged, or of a kind that is not known here",
        )
