# %% [markdown]
# ## 12. Sentences of unequal length: is padding harmless?
#
# *x (2, 6, 3), lengths (2) → mask (2, 1, 6) → weights (2, 6, 6)*
#
# A batch is one block of numbers, but sentences differ in length. Short ones are filled up with rows of zeros,
# **padding**. **Does a word of zeros do any harm?**

# %%
lengths = torch.tensor([6, 3])
padded = torch.stack((inputs, inputs))
padded[1, 3:] = 0.0  # the second sentence is "Your journey starts" and three rows of padding
print(padded[1])

# %% [markdown]
# **Guess.** Which share of its weights does *Your* give to the three rows of zeros, in the layer of section 9?
#
# - **A** 0
# - **B** about 5 %
# - **C** nearly half

# %%
learn.guess("padding share", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
query, key, value = book_layer.W_query(padded), book_layer.W_key(padded), book_layer.W_value(padded)
scores = query @ key.mT / 2**0.5
unmasked = scores.softmax(dim=-1)
show("scores of Your", scores[1, 0])
for token, row in zip(tokens, unmasked[1, :3], strict=False):  # the three words of the short sentence
    print(f"{token} gives the padding {row[3:].sum():.2f}")
learn.answer("padding share")

# %% [markdown]
# A key of zeros scores 0, and a score of 0 is an ordinary score: `exp(0)` is 1. Zero is not nothing. So padding must be
# hidden, like the future, and now each sentence needs a mask of its own.
#
# ### Exercise: padding_mask ★★ (5 min)
# From lengths, one number for each sentence, and kv_len make a bool mask (batch, 1, kv_len): True for words, False for
# padding. `torch.arange(n)` gives 0 to n − 1.


# %%
def my_padding_mask(lengths, kv_len):
    return None  # your code


learn.exercise("padding_mask")(my_padding_mask)

# %% [markdown]
# Where two shapes differ, PyTorch repeats axes of size 1 until they fit: **broadcasting**. It lines shapes up from the
# right; axes that are missing count as 1. The 1 in the middle of (2, 1, 6) says "the same for every query". Masks combine
# with `&`: True where both are.

# %%
keep = torch.arange(6) < lengths[:, None]  # None puts in an axis of size 1: (6) against (2, 1) gives (2, 6)
keep = keep[:, None, :]  # (2, 1, 6)
masked = scores.masked_fill(~keep, -torch.inf).softmax(dim=-1)
both = keep & causal_mask(6, 6)
print(tuple(keep.shape), "&", tuple(causal_mask(6, 6).shape), "→", tuple(both.shape))

alone, together = book_layer(inputs[:3]), attend(query, key, value, keep)[1, :3]
print("padded, as if alone:", torch.allclose(alone, together, atol=1e-6))
assert torch.allclose(alone, together, atol=1e-6)

# %%
labels = [*tokens[:3], "(pad)", "(pad)", "(pad)"]
viewer.grid(
    viewer.weights(unmasked[1, :3], tokens[:3], labels, title="zeros get nearly half"),
    viewer.weights(masked[1, :3], tokens[:3], labels, title="hidden, they get nothing"),
)

# %% [markdown]
# Left, three rows of zeros get nearly as much as three words. Right, none, and the short sentence comes out as if alone.
# (A padding row still *asks* and gets an answer; ignore these rows at the end.)
#
# **Real ones.** A language model is reported to ignore its padding mask: in a longer batch the same sentence gets quite
# other vectors (https://github.com/AI4Bharat/IndicBERT/issues/20). And inside PyTorch, True means *ignore* for one
# attention, *keep* for the other: https://github.com/pytorch/pytorch/pull/170415
