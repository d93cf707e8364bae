"""What a run shows while it learns: a bar with the time left, and a line for each look at what is held out."""

import sys
import time
from pathlib import Path
from types import TracebackType

from tqdm import tqdm


class Progress:
    """Shows steps on standard error; where that is no terminal, its lines alone.

    Args:
        step: how many are made already.
        steps: how many there are to be.
    """

    def __init__(self, step: int, steps: int) -> None:
        self.first, self.steps, self.began = step, steps, time.monotonic()
        self.bar = tqdm(total=steps, initial=step, unit="step", disable=None, file=sys.stderr, leave=False)

    def __enter__(self) -> "Progress":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.close()

    def step(self, loss: float) -> None:
        """One more is made."""
        self.bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        self.bar.update()

    def tell_start(self, path: Path) -> None:
        """Where the run goes on, and where nothing is left to do."""
        if self.first >= self.steps:
            self._write(f"{path} has made {self.first} steps already; --steps {2 * self.first} makes more")
        elif self.first:
            self._write(f"goes on after step {self.first} of {path}")

    def tell_stop(self, path: Path) -> None:
        """Where the run is kept."""
        self._write(f"stopped; {path} is written, and the same command goes on from there")

    def tell(self, step: int, loss: float, held_out: float) -> None:
        """A look at what is held out."""
        left = ""
        if self.first < step < self.steps:
            seconds = (time.monotonic() - self.began) / (step - self.first) * (self.steps - step)
            left = f", {in_words(seconds)} left"
        self._write(f"step {step:>5} of {self.steps}   loss {loss:.3f}   held out {held_out:.3f}{left}")

    def _write(self, line: str) -> None:
        tqdm.write(line, file=sys.stderr)


def in_words(seconds: float) -> str:
    """A time that somebody waits: seconds below two minutes, else minutes."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
