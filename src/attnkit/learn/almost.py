"""What can be wrong when the numbers are right: changed inputs, no gradient, another answer each time."""

import torch
from torch import Tensor

from attnkit.learn.agreement import close, same_entries
from attnkit.learn.answers import TensorAnswer
from attnkit.learn.calling import copies, failure_of, guarded
from attnkit.learn.task import Draws, Function, Task
from attnkit.learn.trials import Trial, changed_inputs, tried
from attnkit.learn.wording import number


def almost_right(task: Task, function: Function, trials: list[Trial], wants: list[Tensor]) -> str | None:
    """What keeps a function whose numbers are right from being right, in a sentence; None where nothing does."""
    for trial in trials:
        fault = _written_into(task, trial) or task.answer.fault(trial.raw, trial.after)
        if fault:
            return fault
    again = other_answer(task, function, trials[0])
    if again:
        return f"Right the first time, but {again}"
    for trial, want in zip(trials, wants, strict=True):
        fault = _gradient_fault(task, function, trial.inputs, want)
        if fault:
            return fault
    return None


def _written_into(task: Task, trial: Trial) -> str | None:
    names = changed_inputs(trial, task.inputs)
    if not names:
        return None
    index = task.inputs.index(names[0])
    before, after = trial.inputs[index], trial.after[index]
    assert isinstance(before, Tensor)
    assert isinstance(after, Tensor)
    if before.shape != after.shape:
        return (
            f"Right, but `{names[0]}` has another shape after the call: an operation that ends in _ wrote "
            "into it."
        )
    amount = int((~same_entries(before, after)).sum())
    return (
        f"Right, but {amount} of the {before.numel()} numbers in `{names[0]}` have changed: an operation "
        f"that ends in _, or an assignment, wrote into it. Whoever uses `{names[0]}` next gets yours."
    )


def _gradients(
    task: Task, function: Function, inputs: tuple[object, ...], pull: Tensor
) -> list[Tensor | None]:
    """The gradient of `(answer * pull).sum()` to each input; None where there is none."""
    leaves = [
        value.clone().requires_grad_() if isinstance(value, Tensor) and value.is_floating_point() else None
        for value in inputs
    ]
    # A leaf may not be written into; a function that writes and then undoes it is no business of this check.
    given = [
        value if leaf is None else leaf * 1.0 for value, leaf in zip(copies(inputs), leaves, strict=True)
    ]
    with guarded():
        answer = task.answer.tensor(function(*given), tuple(given))
    found: list[Tensor | None] = [None] * len(inputs)
    floats = [(index, leaf) for index, leaf in enumerate(leaves) if leaf is not None]
    if answer.requires_grad and floats:
        grads = torch.autograd.grad(answer, [leaf for _, leaf in floats], pull, allow_unused=True)
        for (index, _), grad in zip(floats, grads, strict=True):
            found[index] = grad
    return found


def _gradient_fault(task: Task, function: Function, inputs: tuple[object, ...], want: Tensor) -> str | None:
    if not isinstance(task.answer, TensorAnswer) or not want.is_floating_point():
        return None
    pull = Draws(0)(*want.shape)
    expected = _gradients(task, task.right, inputs, pull)
    try:
        got = _gradients(task, function, inputs, pull)
    except Exception as error:
        return _no_gradient(error)
    for name, mine, right in zip(task.inputs, got, expected, strict=True):
        if right is None:
            continue
        if mine is None:
            return (
                f"Right, but cut off: 0 of the {right.numel()} numbers in `{name}` get a gradient, so "
                "nothing before this function could learn. .item(), .detach(), .data, no_grad, "
                "torch.tensor(...) and nn.Parameter(...) stop it."
            )
        if not torch.isfinite(mine).all():
            return (
                f"Right, but the gradient is not: {int((~torch.isfinite(mine)).sum())} of the {mine.numel()} "
                f"numbers in `{name}` get nan. Replacing a nan (0/0, inf - inf) after it was made is too late "
                "for the way back: avoid it."
            )
        if not close(mine, right):
            worst = int((mine - right).abs().argmax())
            return (
                f"Right, but a part of the gradient is missing: for one number in `{name}` it is "
                f"{number(mine.flatten()[worst])}, not {number(right.flatten()[worst])}. Something on the "
                "way was detached, rounded, or turned into a plain number."
            )
    return None


def _no_gradient(error: Exception) -> str:
    if "inplace" in str(error):
        return (
            "Right, but no gradient can be computed, because a number that the way back needs was "
            "overwritten: replace the operation that writes in place (/=, +=, [...] =, or a name ending in "
            "_) by one that makes a new tensor."
        )
    return f"Right, but not when a gradient is wanted: {failure_of(error).text}"


def other_answer(task: Task, function: Function, first: Trial) -> str | None:
    """The end of a sentence about a function that answers otherwise the second time, else None."""
    again = tried(task.answer, function, first.inputs, None)
    if first.agrees(again):
        return None
    if again.tensor is None or first.tensor is None or again.tensor.shape != first.tensor.shape:
        return "not the second: something is kept between calls."
    amount = int((~same_entries(first.tensor, again.tensor)).sum())
    return (
        f"{amount} of {first.tensor.numel()} numbers are others when the same input comes a second time: "
        "something is random, or kept between calls."
    )
