# %% [markdown]
# ## 10. Hiding the future
#
# *scores (5, 5), mask (5, 5) → weights (5, 5), zero to the right of the diagonal → context (5, 2)*
#
# A model that writes has only the words before, and guesses the next one. In training the whole sentence lies there, the
# answer too, so each word must be kept from reading those after it: **causal** attention. A **mask** is a table that is
# True where a query may look. **Where does it go?**
#
# ### Exercise: causal_mask ★★ (core, 5 min)
# Return the causal mask, True or False (`torch.bool`), of shape (q_len, kv_len). A model that writes on asks for its
# newest words alone, so the queries are the *last* q_len of the kv_len words.

# %%
def my_causal_mask(q_len, kv_len):
    return None  # your code


learn.exercise("causal_mask")(my_causal_mask)


# %% tags=["package"]
def causal_mask(q_len: int, kv_len: int, device: torch.device | None = None) -> Keep:
    """Which keys a query may read: True up to its own position. The last query stands at the last key."""
    return torch.ones(q_len, kv_len, dtype=torch.bool, device=device).tril(kv_len - q_len)


# %% [markdown]
# `tril(k)` keeps the lower triangle, up to k places right of the diagonal, and makes the rest False. (`device` says on
# which processor the numbers lie.) First idea: softmax, then set to zero what is hidden.
#
# **Guess.** What do the rows then sum to?
#
# - **A** 1
# - **B** less than 1, but for the last
# - **C** more than 1

# %%
learn.guess("zero after", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
scores = plane @ plane.T / 2**0.5
mask = causal_mask(5, 5)
late = scores.softmax(dim=-1) * mask  # True counts as 1, False as 0
show("rows sum to", late.sum(dim=-1))
learn.answer("zero after")

# %% [markdown]
# The hidden words took their share first. There are two ways out. Divide each row by its sum once more. Or let hidden
# words take no share at all: give them a score of minus infinity, whose `exp` is 0. A score of 0 will not do: `exp(0)`
# is 1.

# %%
divided = late / late.sum(dim=-1, keepdim=True)
# masked_fill writes where it is given True; ~ turns True into False, and back
hidden = scores.masked_fill(~mask, -torch.inf).softmax(dim=-1)
leaky = scores.masked_fill(~mask, 0.0).softmax(dim=-1)
print(f"the two ways differ by {(divided - hidden).abs().max():.0e} at most (rounding)")
show("score 0: to the future go", (leaky * ~mask).sum(dim=-1))
assert torch.allclose(divided, hidden, atol=1e-6)

# %%
book_scores = book_layer.W_query(inputs) @ book_layer.W_key(inputs).T / 2**0.5
book_weights = book_scores.masked_fill(~causal_mask(6, 6), -torch.inf).softmax(dim=-1)
print(book_weights.detach())  # the six words, in the layer of section 9
assert torch.allclose(book_weights[1, :2], torch.tensor([0.5517, 0.4483]), atol=1e-4)
assert torch.allclose(book_weights[2, :3], torch.tensor([0.3800, 0.3097, 0.3103]), atol=1e-4)

# %% [markdown]
# **Guess.** A row may read *nothing at all*. What are its weights?
#
# - **A** nan
# - **B** all equal
# - **C** depends on who wrote the code

# %%
learn.guess("dead row", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
none = torch.zeros(1, 4, dtype=torch.bool)  # one query, four keys, none may be read
row = torch.tensor([[2.0, 1.0, 0.0, -1.0]])
# fused: PyTorch's attention in one step; it wants two more axes in front
query, key, value = torch.ones(1, 1, 1, 4), torch.ones(1, 1, 4, 4), torch.eye(4).view(1, 1, 4, 4)
fused = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=none)
dead = {
    "-inf, softmax": row.masked_fill(~none, -torch.inf).softmax(dim=-1),
    "-1e9, softmax": row.masked_fill(~none, -1e9).softmax(dim=-1),
    "PyTorch's fused attention": fused[0, 0],  # values are eye(4), so the context is the weights
    "ours: -inf, softmax, zeros": row.masked_fill(~none, -torch.inf).softmax(-1).masked_fill(~none, 0.0),
}
for name, weights in dead.items():
    show(name, weights[0])
learn.answer("dead row")

# %%
keys = ["0", "1", "2", "3"]
viewer.weights(
    torch.cat(list(dead.values())), list(dead), keys, title="one row that may read nothing, four answers"
)

# %% [markdown]
# Whatever is computed from a nan is nan, so it spoils every later layer; equal weights read what was hidden. We take
# zeros: who may read nothing gets nothing.
#
# ### Exercise: masked_weights ★★ (core, 6 min)
# From scores and a mask to weights; a row with nothing to read becomes zeros. Here you may use `scores.softmax`.


# %%
def my_masked_weights(scores, mask):
    return None  # your code


learn.exercise("masked_weights")(my_masked_weights)

# %% [markdown]
# `attend` with a mask:


# %%
def attend(query, key, value, mask=None):
    scores = query @ key.mT / key.shape[-1] ** 0.5
    if mask is not None:
        scores = scores.masked_fill(~mask, -torch.inf)
    weights = scores.softmax(dim=-1)
    if mask is not None:
        weights = weights.masked_fill(~mask, 0.0)
    return weights @ value


# %%
viewer.steps(
    viewer.box("x", plane),
    viewer.box("scores", scores, by="@ x.T\n/ √2", columns=True),
    viewer.box("hide the future", scores, by="mask", keep=mask, columns=True),
    viewer.box("weights", hidden, by="softmax", kind="weights", columns=True),
    viewer.box("context", attend(plane, plane, plane, mask), by="@ x"),
    words=words,
    title="a new box, the mask: nobody reads to the right of itself",
)

# %% [markdown]
# Hatched scores are hidden. *cat* reads only itself; *tree*, the last, sees all.
#
# **A real one.** A bonus notebook of a much-read book gave PyTorch's fused attention a mask that was True for hidden,
# where True keeps, and so read the future: https://github.com/rasbt/LLMs-from-scratch/issues/1061
