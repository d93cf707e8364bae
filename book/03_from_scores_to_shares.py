# %% [markdown]
# ## 3. From scores to shares: the softmax
#
# *scores (6) → weights (6), which sum to 1*
#
# To mix words, a query needs shares: none below zero, and one in total. We call them **weights**. **How do
# scores become weights?** First idea: divide by the sum.

# %%
shares = scores / scores.sum()
print("journey:", shares, "sum", round(shares.sum().item(), 4))
assert torch.allclose(shares, torch.tensor([0.1455, 0.2278, 0.2249, 0.1285, 0.1077, 0.1656]), atol=1e-4)

asked = torch.tensor(bus_scores)
print("bus:    ", asked / asked.sum(), "from scores", asked)

# %% [markdown]
# For *journey* it looks fine. For *bus* it is nonsense: the scores add up to −0.31, so signs flip and
# *cat*, the least similar word, gets a share of +13. Mend it: first `exp`, which is never negative and
# keeps the order. This is the **softmax**.


# %%
def softmax(scores):
    powers = scores.exp()
    # dim=-1 adds along the last axis, which would disappear; keepdim=True keeps it, with size 1
    return powers / powers.sum(dim=-1, keepdim=True)


weights = softmax(scores)
print(weights, "sum", round(weights.sum().item(), 4))
assert torch.allclose(weights, torch.tensor([0.1385, 0.2379, 0.2333, 0.1240, 0.1082, 0.1581]), atol=1e-4)

# %%
panels = {"scores of bus": asked, "divided by their sum": asked / asked.sum(), "softmax": softmax(asked)}
shown = {name: dict(zip(words, numbers.tolist(), strict=True)) for name, numbers in panels.items()}
viewer.bars(shown, title="dividing turns bus upside down; the softmax keeps the order")

# %% [markdown]
# Divided, *bus* gives most to the word least like it; with `exp` in between, every share lies from 0 to 1.
#
# **Guess.** Add 10 to every score. The weights
#
# - **A** stay the same
# - **B** get more equal
# - **C** get less equal

# %%
learn.guess("add ten", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
print("as they were:", softmax(scores))
print("plus 10:     ", softmax(scores + 10))
learn.answer("add ten")

# %% [markdown]
# **Guess.** What does our softmax make of the scores 1000 and 1001?
#
# - **A** 0.27 and 0.73
# - **B** 0.50 and 0.50
# - **C** nan and nan (not a number)

# %%
learn.guess("large scores", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
large = torch.tensor([1000.0, 1001.0])
print("exp:", large.exp(), " softmax:", softmax(large))
print("largest score taken off first:", softmax(large - large.max()))
print("PyTorch does that by itself:  ", large.softmax(dim=-1))
learn.answer("large scores")

# %% [markdown]
# A shift changes nothing, so take off the largest score: `exp` of 0 or less never overflows.
#
# **A real one.** The annotated image generator of labml ran its softmax along the wrong axis. Trained again
# with the right one, its images were no better (same FID, the usual measure), so no result had given it
# away: https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/146
#
# ### Exercise: softmax ★★ (core, 6 min)
# Scores of any shape; each row of the last axis becomes weights that sum to one. It must survive rows like
# 1000, 1001. Use neither `torch.softmax` nor the method.


# %%
def my_softmax(scores):
    return None  # your code


learn.exercise("softmax")(my_softmax)
