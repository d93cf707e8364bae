# %% [markdown]
# ## 16. Check your own
#
# *any module, x (3, 7, 24) → output (3, 7, 24) → a sentence*
#
# A layer as people write it: shapes fit, nothing reads the future, and with it a model trains. **Would you trust it?**

# %%
class MyAttention(nn.Module):  # paste a class of your own in place of this one
    def __init__(self, d_in, num_heads):
        super().__init__()
        self.d_in, self.num_heads = d_in, num_heads
        self.qkv = nn.Linear(d_in, 3 * d_in)  # query, key and value side by side
        self.out_proj = nn.Linear(d_in, d_in)

    def scores(self, query, key):
        return query @ key.mT / self.d_in**0.5

    def forward(self, x):
        batch, length, _ = x.shape
        heads = self.qkv(x).view(batch, length, 3, self.num_heads, -1)
        query, key, value = heads.permute(2, 0, 3, 1, 4)  # each (batch, heads, len, head_dim)
        scores = self.scores(query, key).masked_fill(~causal_mask(length, length), -torch.inf)
        return self.out_proj((scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(x.shape))


# %% [markdown]
# **Guess.** One thing in it is wrong. Which?
#
# - **A** a word reads later ones
# - **B** the scores
# - **C** how the heads are joined

# %%
learn.guess("your own", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
torch.manual_seed(0)
own = ak.check(MyAttention(24, num_heads=4), d_in=24, causal=True)
print(f"it found out: {own.described}")
tell("MyAttention", own)
learn.answer("your own")

# %% [markdown]
# `d_in=24` is how many numbers a word has. What you declare is tested (`causal=True`; also `window`, `num_heads`, `dropout`,
# `positions`, ...); what you leave out is found out where it can be. `check` works on a copy, with inputs that make faults
# large: peaked words, unequal lengths, and other words where none may be read.
#
# The sentence says what *is* (0.2041), what it equals, what was expected: it points at one line. Mend that line and ask
# again. Printed whole, a report also tells what was **not** tested, and why:


# %%
class Mended(MyAttention):  # in your own class, change the line itself
    def scores(self, query, key):
        return query @ key.mT / key.shape[-1] ** 0.5


torch.manual_seed(0)
print(ak.check(Mended(24, num_heads=4), d_in=24, causal=True))

# %% [markdown]
# Now yours: paste your class over `MyAttention`, make one in the cell after the guess, and `print(own)` there.
#
# - Matrices are found by their usual names, `qkv` for instance; where a report says that its projections are not known,
#   tell it theirs: `projections={"query": "ask", ...}`.
# - A class that is called in another way gets an adapter: `call=lambda module, x, memory, keep, cache: module(x, mask=keep)`,
#   where `keep` is True for words, False for padding, or None.
# - In a terminal, `attnkit check file.py:MyAttention --arg d_in=24 --arg num_heads=4 --d-in 24 --causal` does the same, and
#   names the section to read again.
#
# That nothing was found is no proof: only these questions were asked.
