# %% [markdown]
# ## 11. Many sentences at once, and forgetting on purpose
#
# *x (2, 6, 3) → query, key, value (2, 6, 2) → weights (2, 6, 6) → dropout → context (2, 6, 2)*
#
# Computers are fastest when they work on many sentences together: a **batch**, one more axis in front. **What must
# `attend` change?**

# %%
batch = torch.stack((inputs, inputs.flip(0)))  # the six words, and the six words backwards
print(tuple(batch.shape), "→", tuple(book_layer(batch).shape))
print(
    "each sentence comes out as if alone:",
    torch.allclose(book_layer(batch)[1], book_layer(inputs.flip(0)), atol=1e-6),
)

# %% [markdown]
# Nothing: `@`, `.mT` and `dim=-1` count axes from the right, and what lies further left is carried along. But all must
# agree which axis is the batch.
#
# **A real one.** PyTorch's `nn.MultiheadAttention` wants words first, batch second, unless told otherwise. The published
# code of a detector did not tell it, so the images of a batch read each other:
# https://github.com/om-ai-lab/OmDet/issues/19
#
# Now a trick of training. **Dropout**: each weight becomes 0 with probability p, by chance and anew at every step, so
# that no word can rely on one other. What is left is divided by 1 − p, which keeps the average.
#
# **Guess.** p = 0.5. What do the rows of weights sum to in training?
#
# - **A** always 1
# - **B** anything from 0 to 2
# - **C** always 0.5

# %%
learn.guess("dropout rows", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
torch.manual_seed(11)
dropout = nn.Dropout(0.5)  # a new module starts in training mode
show("rows in training", dropout(hidden).sum(dim=-1))
draws = torch.stack([dropout(hidden).sum(dim=-1) for _ in range(4000)])
show("average of 4,000 draws", draws.mean(dim=0))
dropped = dropout(hidden)
dropout.eval()  # evaluation mode, for using a model; .train() goes back
show("rows in evaluation", dropout(hidden).sum(dim=-1))
assert torch.equal(dropout(hidden), hidden)  # in evaluation nothing is dropped
learn.answer("dropout rows")

# %%
viewer.steps(
    viewer.box("x", plane),
    viewer.box("weights", hidden, by="mask,\nsoftmax", kind="weights", columns=True, note="rows sum to 1"),
    viewer.box("dropped", dropped, by="dropout 0.5", kind="weights", columns=True, note="they need not"),
    viewer.box("context", dropped @ plane, by="@ x"),
    words=words,
    title="a new box, dropout: weights are zero or doubled",
)

# %% [markdown]
# *cat* reads only itself, so in training its context is twice *cat* or nothing (here nothing): outside the hull of
# section 4.
#
# **A real one.** PyTorch's fused attention drops in evaluation too, unless you pass it a p of 0:
# https://github.com/pytorch/pytorch/issues/124464
#
# ### Exercise: dropout ★ (4 min)
# `random` holds a number from 0 to 1 for each weight: drop where it is below p. Not in training, nothing is dropped.


# %%
def my_dropout(weights, random, p, training):
    return None  # your code


learn.exercise("dropout")(my_dropout)

# %% [markdown]
# The final `attend`, and its class. Behind each colon stands what is expected, a hint for people: `Keep | None = None`
# means a mask, or nothing if you give nothing; `dropout` is any function from a tensor to a tensor.


# %% tags=["package"]
def attend(
    query: Query,
    key: Key,
    value: Value,
    mask: Keep | None = None,
    dropout: Callable[[Tensor], Tensor] | None = None,
) -> Context:
    """The context: scores, hidden where `mask` is False, become weights, and the weights mix `value`.

    A query that may read nothing gets zeros.
    """
    scores = query @ key.mT / key.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    if dropout is not None:
        weights = dropout(weights)
    return weights @ value


# %% tags=["package"]
class CausalAttention(nn.Module):
    """Self-attention that reads only the past, with dropout on the weights.

    Maps (*batch, len, d_in) to (*batch, len, d_out), len up to context_length.
    """

    def __init__(
        self, d_in: int, d_out: int, context_length: int, dropout: float, qkv_bias: bool = False
    ) -> None:
        super().__init__()
        check_dropout("CausalAttention", dropout)
        self.d_out, self.context_length = d_out, context_length
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.dropout = nn.Dropout(dropout)
        accept_stored_mask(self)

    def forward(self, x: Tokens) -> Output:
        """One context vector for each token of `x`, from itself and the tokens before it."""
        check_tokens("CausalAttention", x, d_in=self.W_query.in_features)
        check_length("CausalAttention", x, self.context_length)
        mask = causal_mask(x.shape[-2], x.shape[-2], device=x.device)
        return attend(self.W_query(x), self.W_key(x), self.W_value(x), mask, self.dropout)


# %% [markdown]
# Elsewhere the mask is often a **buffer**, a tensor that a module owns but does not train; then every saved layer carries
# it (4 MiB at 1,024 words). Ours is made at each call; `accept_stored_mask` lets files be loaded that have one.

# %%
torch.manual_seed(123)
causal = CausalAttention(3, 2, context_length=6, dropout=0.0)
print(causal(batch)[0].detach())  # the first sentence of the batch
printed = [
    [-0.4519, 0.2216],
    [-0.5874, 0.0058],
    [-0.6300, -0.0632],
    [-0.5675, -0.0843],
    [-0.5526, -0.0981],
    [-0.5299, -0.1081],
]
assert torch.allclose(causal(batch)[0], torch.tensor(printed), atol=1e-4)

# %%
print("the first four words without the last two, as above:", causal(inputs[:4]).detach(), sep="\n")
assert torch.allclose(causal(inputs)[:4], causal(inputs[:4]), atol=1e-6)
alone = causal.W_value(inputs[0])  # the first word reads only itself
assert torch.allclose(causal(inputs)[0], alone, atol=1e-6)
