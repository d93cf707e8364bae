"""Learning, made to be watched: a loop that shows its progress and can be broken off, and real data to learn from.

    history = train(model, loss, Plan(folder=Path("runs/mine"), steps=1000), held_out=held_out)

What it learns from is in `attnkit.lab.data`: real data, or files of your own.
"""

from attnkit.errors import need as _need

for _module in ("tqdm", "safetensors"):
    _need(_module, extra="lab", where="lab")

from attnkit.lab.checkpoint import Saved  # noqa: E402, whoever lacks a package is told so first
from attnkit.lab.commands import command  # noqa: E402
from attnkit.lab.training import History, Plan, train  # noqa: E402
from attnkit.lab.watching import weights_in  # noqa: E402

__all__ = ["History", "Plan", "Saved", "command", "train", "weights_in"]
