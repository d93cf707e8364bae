"""Calling a reader's function so that nothing it does reaches beyond the call."""

import contextlib
import dis
import io
import linecache
import os
import textwrap
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

_IDLE = (
    "RESUME",
    "NOP",
    "CACHE",
    "LOAD_CONST",
    "LOAD_FAST",
    "STORE_FAST",
    "RETURN",
    "POP_TOP",
    "NOT_TAKEN",
    "COPY_FREE",
)
_STANDARD_LIBRARY = Path(contextlib.__file__).parent
_SITE_PACKAGES = Path(torch.__file__).parents[1]
_OTHER_PEOPLES = tuple(
    f"{path}{os.sep}" for path in (_STANDARD_LIBRARY, _SITE_PACKAGES, Path(__file__).parents[1])
)


@dataclass(frozen=True)
class Failure:
    """What went wrong in a call: the error, and the reader's line with it (0 and "" where unknown)."""

    error: Exception
    line: int = 0
    source: str = ""

    @property
    def text(self) -> str:
        """The error as one sentence: its kind, the line, the message."""
        where = f" in line {self.line}" if self.line else ""
        code = f", `{textwrap.shorten(self.source, 80, placeholder=' ...')}`" if self.source else ""
        message = (str(self.error).strip() or "no message").splitlines()[0]
        return f"{type(self.error).__name__}{where}{code}: {message.rstrip('.')}."


@contextlib.contextmanager
def untouched() -> Iterator[None]:
    """Restore random state, gradient mode and threads afterwards; keep warnings quiet."""
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    # The inputs are tiny: on a busy machine two threads would mostly wait for each other.
    torch.set_num_threads(1)
    torch.default_generator.manual_seed(0)
    try:
        # inference_mode(False) turns gradients on too, and gives back both modes as they were.
        with warnings.catch_warnings(), torch.inference_mode(False):
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.set_rng_state(state)
        torch.set_num_threads(threads)


@contextlib.contextmanager
def guarded(*, aloud: bool = False) -> Iterator[None]:
    """One call: afterwards torch's defaults are as before; unless `aloud`, what is printed is swallowed."""
    dtype, device = torch.get_default_dtype(), torch.get_default_device()
    sink = io.StringIO()
    try:
        with torch.enable_grad(), contextlib.ExitStack() as stack:
            if not aloud:
                stack.enter_context(contextlib.redirect_stdout(sink))
                stack.enter_context(contextlib.redirect_stderr(sink))
            yield
    finally:
        torch.set_default_dtype(dtype)
        if torch.get_default_device() != device:
            torch.set_default_device(None if device.type == "cpu" else device)


def copies(inputs: tuple[object, ...]) -> tuple[object, ...]:
    """The inputs with every tensor copied, so that a function that writes into them spoils nothing."""
    return tuple(value.clone() if isinstance(value, Tensor) else value for value in inputs)


def is_stub(function: Callable[..., object]) -> bool:
    """Whether the body of `function` computes nothing: `pass`, `...`, `return None`, a docstring."""
    code = getattr(function, "__code__", None)
    return code is not None and all(step.opname.startswith(_IDLE) for step in dis.get_instructions(code))


def failure_of(error: Exception) -> Failure:
    """The failure of a call, at the last line that the reader wrote: not of torch, of Python or of attnkit."""
    own = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((*_OTHER_PEOPLES, "<frozen"))
    ]
    if not own or own[-1].lineno is None:
        return Failure(error)
    line = own[-1].lineno
    return Failure(error, line, linecache.getline(own[-1].filename, line).strip())
