# %% [markdown]
# ## 9. The class, twice
#
# *x (6, 3) → query, key, value (6, 2) → context (6, 2)*
#
# Three matrices that training may change, and `attend`: that is a layer, in PyTorch a class derived from `nn.Module`, a
# *module*. **Where do the matrices live, and with what numbers do they start?**
#
# Two things that you may read past: `Tokens`, `Query` and the like only name shapes, and `check_tokens` only answers a
# wrong shape with a clear sentence. `(*batch, len, d_in)` means: any axes in front, then len words of d_in numbers.

# %%
from collections.abc import Callable

from torch import Tensor

from attnkit.layers.loading import accept_stored_mask
from attnkit.shapes import Context, Keep, Key, Output, Query, Tokens, Value
from attnkit.shapes import check_dropout, check_heads, check_length, check_tokens

# %% [markdown]
# A **Parameter** is a tensor that a module owns and training changes. `super().__init__()` comes first: it starts the
# list in which the module keeps them. `forward` says what the module does; calling the module, `layer(x)`, runs it.


# %% tags=["package"]
class SelfAttention(nn.Module):
    """Self-attention with three matrices of shape (d_in, d_out), drawn evenly from 0 to 1.

    Maps (*batch, len, d_in) to (*batch, len, d_out).
    """

    def __init__(self, d_in: int, d_out: int) -> None:
        super().__init__()
        self.W_query = nn.Parameter(torch.rand(d_in, d_out))
        self.W_key = nn.Parameter(torch.rand(d_in, d_out))
        self.W_value = nn.Parameter(torch.rand(d_in, d_out))

    def forward(self, x: Tokens) -> Output:
        """One context vector for each token of `x`; anything but floats (*batch, len, d_in) is refused."""
        check_tokens("SelfAttention", x, d_in=self.W_query.shape[0])
        return attend(x @ self.W_query, x @ self.W_key, x @ self.W_value)


# %%
torch.manual_seed(123)
first = SelfAttention(3, 2)
print(first(inputs).detach())  # detach: without PyTorch's notes on where the numbers come from
printed = [
    [0.2996, 0.8053],
    [0.3061, 0.8210],
    [0.3058, 0.8203],
    [0.2948, 0.7939],
    [0.2927, 0.7891],
    [0.2990, 0.8040],
]
assert torch.allclose(first(inputs), torch.tensor(printed), atol=1e-4)  # the numbers of the book

# %% [markdown]
# The usual way is **nn.Linear**: a layer that holds one matrix (and, if asked, a vector to add, the bias).


# %% tags=["package"]
class SelfAttentionv2(nn.Module):
    """Self-attention with three `nn.Linear`, whose weights are stored as (d_out, d_in).

    Maps (*batch, len, d_in) to (*batch, len, d_out).
    """

    def __init__(self, d_in: int, d_out: int, qkv_bias: bool = False) -> None:
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)

    def forward(self, x: Tokens) -> Output:
        """One context vector for each token of `x`; anything but floats (*batch, len, d_in) is refused."""
        check_tokens("SelfAttentionv2", x, d_in=self.W_query.in_features)
        return attend(self.W_query(x), self.W_key(x), self.W_value(x))


# %% [markdown]
# **Guess.** Same seed, same sizes, same input: does `SelfAttentionv2` print what `SelfAttention` printed?
#
# - **A** no, other numbers
# - **B** yes, to the digit
# - **C** the same numbers in another order

# %%
learn.guess("same seed", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
torch.manual_seed(123)
second = SelfAttentionv2(3, 2)
show("SelfAttention, first word", first(inputs)[0])
show("SelfAttentionv2, first word", second(inputs)[0])
print("W_query:", tuple(first.W_query.shape), "and", tuple(second.W_query.weight.shape))
learn.answer("same seed")

# %%
assert torch.allclose(second(inputs)[0], torch.tensor([-0.5337, -0.1051]), atol=1e-4)
torch.manual_seed(789)  # the book uses another seed here
book_layer = SelfAttentionv2(3, 2)
print(book_layer(inputs).detach())
printed = [
    [-0.0739, 0.0713],
    [-0.0748, 0.0703],
    [-0.0749, 0.0702],
    [-0.0760, 0.0685],
    [-0.0763, 0.0679],
    [-0.0754, 0.0693],
]
assert torch.allclose(book_layer(inputs), torch.tensor(printed), atol=1e-4)

# %%
wide, linear = SelfAttention(3, 4000), SelfAttentionv2(3, 4000)  # many numbers, to see how they lie
viewer.histograms(
    {"SelfAttention: torch.rand": wide.W_query, "SelfAttentionv2: nn.Linear": linear.W_query.weight},
    title="where the matrices start: from 0 to 1, or around 0",
    bins=41,
)

# %% [markdown]
# `torch.rand` draws from 0 to 1, `nn.Linear` evenly around 0, up to one over the root of d_in (here 0.58), so that wide
# inputs do not give large outputs. It also stores its matrix as (d_out, d_in) and computes `x @ weight.T`.
#
# **A real one.** The text of a course on serving models had these shapes the wrong way round, until a reader compared
# them with the layer: https://github.com/skyzh/tiny-llm/pull/60
#
# ### Exercise: to_linear ★ (3 min)
# Given weight (d_in, d_out), return an `nn.Linear` without bias that computes `x @ weight`. Numbers are written into a
# tensor by `tensor.copy_(numbers)`. Do so inside `with torch.no_grad():`, which hides the copying from training.


# %%
def my_to_linear(weight):
    return None  # your code


learn.exercise("to_linear")(my_to_linear)

# %% [markdown]
# With equal matrices, the two classes are equal:

# %%
third = SelfAttention(3, 2)
with torch.no_grad():
    for name in ("W_query", "W_key", "W_value"):
        getattr(third, name).copy_(getattr(second, name).weight.T)  # third.W_query and so on
print(f"largest difference: {(third(inputs) - second(inputs)).abs().max():.0e}")
assert torch.allclose(third(inputs), second(inputs), atol=1e-6)
