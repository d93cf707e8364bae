"""Section 9: the class, twice."""

import torch
from torch import Tensor, nn

from attnkit.learn.agreement import close
from attnkit.learn.answers import LayerAnswer
from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.wording import extent, number

_draw = Draws(9)


def _layer(numbers: Tensor, weight: Tensor, *, bias: bool = False) -> nn.Linear:
    """A layer for `weight` (d_in, d_out), filled with `numbers`."""
    layer = nn.Linear(*weight.shape, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(numbers)
    return layer


def _shifted(at: Sample) -> bool:
    """Right but for what zero becomes."""
    zero = at.got[-1]
    return bool((zero.abs() > 1e-6).any()) and close(at.got[:-1] - zero, at.want[:-1])


def _does_not_look(at: Sample) -> bool:
    """The layer would be the same for another `weight` of this shape."""
    layers = []
    for weight in (at.tensor(0), at.tensor(0).flip(0)):
        torch.default_generator.manual_seed(0)
        layers.append(at.call(weight))
    return close(*layers)


def _from_zero(at: Sample) -> str:
    return extent(at.got[-1])


TO_LINEAR = Task(
    name="to_linear",
    section=9,
    stars=1,
    signature="to_linear(weight) -> an nn.Linear without bias, from weight (d_in, d_out)",
    statement=(
        "Make the layer whose answer to x is x @ weight: the numbers of `weight` copied to where nn.Linear "
        "wants them."
    ),
    cases=((_draw(3, 5).float(),), (_draw(4, 4).float(),)),
    right=lambda weight: _layer(weight.T, weight),
    wrongs=(
        Wrong(
            "transposed",
            lambda weight: _layer(weight, weight),
            lambda at: (
                f"Your weight went in as it was. On a square of {len(at.got) - 1} x {len(at.got) - 1} it "
                f"runs and answers {number(at.got[0, 1])} where {number(at.want[0, 1])} is right; on any "
                "other shape it stops. nn.Linear stores (d_out, d_in): turn it round."
            ),
        ),
        Wrong(
            "reshaped",
            lambda weight: _layer(weight.reshape(weight.shape[::-1]), weight),
            lambda at: (
                f"The shape fits and the numbers are scrambled: {number(at.got[0, 1])} where "
                f"{number(at.want[0, 1])} is right. Reshaping keeps the order of reading; here the two axes "
                "should change places."
            ),
        ),
        Wrong(
            "bias",
            lambda weight: _layer(weight.T, weight, bias=True),
            lambda at: (
                "A bias is left: to a vector of zeros your layer answers with numbers from "
                f"{_from_zero(at)}, and x @ weight answers 0. Ask for a layer without one."
            ),
            match=_shifted,
        ),
        Wrong(
            "not copied",
            lambda weight: nn.Linear(*weight.shape, bias=False),
            lambda at: (
                f"Your layer holds numbers of its own ({extent(at.got[:-1])}): none of the "
                f"{at.tensor(0).numel()} of `weight` has reached it."
            ),
            match=_does_not_look,
        ),
    ),
    hints=(
        "nn.Linear(d_in, d_out, bias=False) makes the layer. Print the shape of its weight: which way round "
        "is it stored?",
        "Under torch.no_grad(), the copy_ of the layer's weight takes your numbers, transposed.",
    ),
    solution="""\
def to_linear(weight):
    d_in, d_out = weight.shape
    linear = nn.Linear(d_in, d_out, bias=False)
    with torch.no_grad():
        linear.weight.copy_(weight.T)
    return linear
""",
    answer=LayerAnswer(),
)
