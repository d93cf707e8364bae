"""Around a target's calls: what it prints is held back, what it changes for everybody is put back, and time is limited.

Hundreds of calls are made of a target, so that what it prints, and its warnings, would bury the report. Time is looked
at before each call: one call is never interrupted.
"""

import contextlib
import io
import random
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch

from attnkit.conformance.subject import Subject

LIMITS_SECONDS = {"basic": 60.0, "full": 600.0, "strict": 1800.0}


class OutOfTime(BaseException):
    """The time for all checks is over; no Exception, for checks take these as a target's refusal."""


class _Counter(io.TextIOBase):
    """Counts what is written, and keeps none of it."""

    def __init__(self) -> None:
        self.written = 0

    def writable(self) -> bool:
        """Whether one may write to it."""
        return True

    def write(self, text: str, /) -> int:
        """Count and forget."""
        self.written += len(text)
        return len(text)


@contextlib.contextmanager
def held_back() -> Iterator[_Counter]:
    """Hold back what is printed, and warnings; `written` counts the characters that were printed."""
    counter = _Counter()
    with contextlib.redirect_stdout(counter), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield counter


@contextlib.contextmanager
def put_back() -> Iterator[None]:
    """Put back what a target may change for everybody: random states, modes, the usual dtype and device."""
    dtype, device, grad = torch.get_default_dtype(), torch.get_default_device(), torch.is_grad_enabled()
    deterministic, warn = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    threads, python = torch.get_num_threads(), random.getstate()
    numpy = sys.modules.get("numpy")
    numbers = numpy.random.get_state() if numpy else None
    with torch.random.fork_rng(devices=[]):
        try:
            torch.set_num_threads(
                1
            )  # calls are small: on a busy machine threads would wait for each other, not help
            yield
        finally:
            random.setstate(python)
            if numpy and numbers is not None:
                numpy.random.set_state(numbers)
            torch.set_default_dtype(dtype)
            if torch.get_default_device() != device:
                torch.set_default_device(device)
            torch.set_grad_enabled(grad)
            if torch.get_num_threads() != threads:
                torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(deterministic, warn_only=warn)


def limited(subject: Subject, seconds: float) -> Subject:
    """The same, whose calls raise `OutOfTime` when so many seconds are over, counted from now."""
    end, call = time.perf_counter() + seconds, subject.call

    def timed(*given: Any) -> Any:
        if time.perf_counter() > end:
            raise OutOfTime
        return call(*given)

    return replace(subject, call=timed)
