# %% [markdown]
# ## 3. From scores to shares: the softmax
#
# *scores (6) → weights (6), which sum to 1*
#
# To mix words, a query needs to know how much of each to take: shares, none below zero, and one in total. We
# call them **weights**. **How do scores become weights?** First idea: divide by the sum.


# %%
def show(name, numbers):
    print(f"{name:28}", *(f"{number:8.4f}" for number in numbers))


journey_scores = inputs @ inputs[1]  # the six scores of before, all at once
shares = journey_scores / journey_scores.sum()
show("journey: scores", journey_scores)
show("journey: divided by the sum", shares)
assert torch.allclose(shares, torch.tensor([0.1455, 0.2278, 0.2249, 0.1285, 0.1077, 0.1656]), atol=1e-4)

asked = torch.tensor(bus_scores)
show("bus: scores", asked)
show("bus: divided by the sum", asked / asked.sum())

# %% [markdown]
# For *journey* it looks fine. For *bus* it is nonsense: the scores add up to −0.31, so signs flip and
# *cat*, the least similar word, gets a share of +13. Mend it: put `exp` before the division. exp(s) is 2.718 to
# the power of s: never negative, and larger for a larger score. The two steps together are the **softmax**.


# %%
def softmax(scores):
    powers = scores.exp()
    # dim=-1 adds along the last axis, which would disappear; keepdim=True keeps it, with size 1, so that
    # of several rows each is divided by its own sum
    return powers / powers.sum(dim=-1, keepdim=True)


weights = softmax(journey_scores)
show("journey: weights", weights)
print(f"their sum: {weights.sum():.4f}")
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
show("weights, as they were", softmax(journey_scores))
show("weights, scores plus 10", softmax(journey_scores + 10))
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
show("exp (inf is infinity)", large.exp())
show("our softmax", softmax(large))
show("largest score taken off", softmax(large - large.max()))
show("PyTorch's own softmax", large.softmax(dim=-1))
learn.answer("large scores")

# %% [markdown]
# Adding or taking off the same number changes nothing, so take off the largest score: then every score is 0 or
# less, and `exp` of that is at most 1. PyTorch's softmax does so by itself; from here on we use it.
#
# **A real one.** An annotated image generator by labml ran its softmax along the wrong axis. A reader mended it
# and trained again: by the usual measure (FID) the images were no better, so no result could have given the fault
# away: https://github.com/labmlai/annotated_deep_learning_paper_implementations/issues/146
#
# ### Exercise: softmax ★★ (core, 6 min)
# Scores of any shape; each row of the last axis becomes weights that sum to one. It must survive rows like
# 1000, 1001. Write it with `exp`: only numbers are judged, so `torch.softmax` would pass as well, and show you nothing.


# %%
def my_softmax(scores):
    return None  # your code


learn.exercise("softmax")(my_softmax)
