"""What a function may return.

A kind of answer says how the function is called, what can be wrong before any number is looked at, and as
which tensor the answer is compared with others.
"""

import inspect
from collections.abc import Callable

import torch
from torch import Tensor, nn

from attnkit.learn.agreement import close
from attnkit.learn.wording import dtype, shape


class Answer:
    """A kind of answer; the kinds below say what is asked of each."""

    def ask(self, function: Callable[..., object], inputs: tuple[object, ...]) -> object:
        """Call the reader's function."""
        return function(*inputs)

    def trouble(self, raw: object, want: Tensor) -> str | None:
        """What keeps `raw` from being compared with `want`, in a sentence; None where nothing does."""
        raise NotImplementedError

    def tensor(self, raw: object, inputs: tuple[object, ...]) -> Tensor:
        """`raw` as the tensor that is compared."""
        raise NotImplementedError

    def fault(self, raw: object, inputs: tuple[object, ...]) -> str | None:
        """What is still wrong with an answer whose numbers are right; None where nothing is."""
        return None

    def praise(self, wants: list[Tensor]) -> str:
        """The sentence for a right answer, given the right ones."""
        return f"Right on every input ({len(wants)} of {len(wants)}), the awkward ones too."


class TensorAnswer(Answer):
    """A tensor with the type of the inputs: float64 in, float64 out; a mask is boolean."""

    def trouble(self, raw: object, want: Tensor) -> str | None:
        """No tensor, a sparse one, another device, or another dtype."""
        if not isinstance(raw, Tensor):
            return not_a_tensor(raw)
        if raw.layout != torch.strided:
            return "A sparse tensor came back; an ordinary one is wanted: .to_dense() makes it."
        if raw.device != want.device:
            return (
                f"Your tensor is on {raw.device}, the inputs are on {want.device}: make new tensors where "
                "they are."
            )
        if raw.dtype == want.dtype:
            return None
        if want.dtype == torch.bool:
            return (
                f'A mask of {dtype(raw)} came back; masks are bool here, True means "may be read". A mask of '
                "numbers is sooner or later added to the scores, and then it hides nothing."
            )
        so_far = "The numbers are right, but" if close(raw, want) else "Before the numbers:"
        return (
            f"{so_far} {dtype(want)} went in and {dtype(raw)} came out. A tensor that you make yourself "
            "starts as float32 (or int64); give it the dtype of the inputs, or build it from them."
        )

    def tensor(self, raw: object, inputs: tuple[object, ...]) -> Tensor:
        """The answer itself."""
        assert isinstance(raw, Tensor)
        return raw.as_subclass(Tensor)

    def praise(self, wants: list[Tensor]) -> str:
        """Says of a float answer that the gradient was looked at too."""
        gradient = " The gradient reaches every input." if wants[0].is_floating_point() else ""
        return super().praise(wants) + gradient


class MatricesAnswer(Answer):
    """Two square matrices for `n` positions, compared by the weights that they make of one-hot positions."""

    def trouble(self, raw: object, want: Tensor) -> str | None:
        """No pair of tensors, or one of another shape."""
        if not isinstance(raw, tuple | list) or len(raw) != 2:
            return (
                f"Two matrices are wanted, W_query and W_key, with a comma between; {kind_of(raw)} came back."
            )
        for name, matrix in zip(("W_query", "W_key"), raw, strict=True):
            if not isinstance(matrix, Tensor):
                return f"{name}: {not_a_tensor(matrix)}"
            if matrix.shape != want.shape:
                return f"{name} has shape {shape(matrix)}; for n = {len(want)} it should be {shape(want)}."
        return None

    def tensor(self, raw: object, inputs: tuple[object, ...]) -> Tensor:
        """Weights (n, n): row i is what position i reads."""
        n = inputs[0]
        assert isinstance(raw, tuple | list)
        assert isinstance(n, int)
        w_query, w_key = raw
        scores = w_query.detach().double() @ w_key.detach().double().T
        return (scores / n**0.5).softmax(-1)

    def praise(self, wants: list[Tensor]) -> str:
        """Says how strongly, for which numbers of positions."""
        sizes = " and ".join(str(len(want)) for want in wants)
        return f"Right: with {sizes} positions, each reads its left neighbour with 0.99 or more."


class LayerAnswer(Answer):
    """An `nn.Linear` made from `weight` (d_in, d_out), compared by its answers to unit vectors and zero."""

    def trouble(self, raw: object, want: Tensor) -> str | None:
        """No `nn.Linear`, or one of another shape or dtype."""
        if not isinstance(raw, nn.Linear):
            return (
                f"An nn.Linear is wanted: the layer itself, not what it computes; {kind_of(raw)} came back."
            )
        d_in, d_out = len(want) - 1, want.shape[1]
        if tuple(raw.weight.shape) != (d_out, d_in):
            return (
                f"Your layer maps {raw.weight.shape[1]} numbers to {raw.weight.shape[0]}; it should map "
                f"{d_in} to {d_out}."
            )
        if raw.weight.dtype != want.dtype:
            return f"Your layer holds {dtype(raw.weight)}, and `weight` is {dtype(want)}: keep its dtype."
        return None

    def tensor(self, raw: object, inputs: tuple[object, ...]) -> Tensor:
        """The answers to the unit vectors and, last, to zero: (d_in + 1, d_out)."""
        assert isinstance(raw, nn.Linear)
        assert isinstance(inputs[0], Tensor)
        d_in = len(inputs[0])
        probe = torch.cat([torch.eye(d_in), torch.zeros(1, d_in)])
        return raw(probe).detach()

    def fault(self, raw: object, inputs: tuple[object, ...]) -> str | None:
        """A bias of zeros, or numbers shared with the input."""
        assert isinstance(raw, nn.Linear)
        assert isinstance(inputs[0], Tensor)
        if raw.bias is not None:
            return (
                f"Right so far, but a bias of {raw.bias.numel()} zeros is left, and training will move it: "
                "the layer should have none."
            )
        if raw.weight.untyped_storage().data_ptr() == inputs[0].untyped_storage().data_ptr():
            return (
                f"Right, but the layer holds your {inputs[0].numel()} numbers themselves, not a copy: "
                "training the layer will change `weight`. Copy the numbers into the layer's own."
            )
        return None


def kind_of(value: object) -> str:
    """What a value is, with its article: "a list of 6", "a NumPy array", "nothing"."""
    if value is None:
        return "nothing"
    if type(value).__module__ == "numpy":
        return "a NumPy array" if hasattr(value, "__len__") else "a NumPy number"
    if isinstance(value, tuple | list):
        return f"a {type(value).__name__} of {len(value)}"
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    if inspect.isroutine(value):
        return "a function"
    name = type(value).__name__
    return f"{'an' if name[0].lower() in 'aeiou' else 'a'} {name}"


def not_a_tensor(raw: object) -> str:
    """The sentence for an answer that should have been a tensor."""
    if type(raw).__module__ == "numpy":
        return f"{_capital(kind_of(raw))} came back; stay with tensors, so that the gradient can follow."
    if isinstance(raw, tuple | list) and raw and all(isinstance(part, Tensor) for part in raw):
        if len(raw) == 1:
            return f"A {type(raw).__name__} with one tensor in it came back; the tensor itself is wanted."
        return (
            f"A {type(raw).__name__} of {len(raw)} tensors came back; one tensor is wanted. torch.stack "
            "makes one of them."
        )
    if isinstance(raw, bool | int | float):
        return (
            f"The plain number {raw} came back; a tensor is wanted. (.item() leaves the tensors, and the "
            "gradient.)"
        )
    return f"{_capital(kind_of(raw))} came back; a tensor is wanted."


def _capital(words: str) -> str:
    return words[0].upper() + words[1:]
