# %% [markdown]
# # II. Attention that learns

# %% [markdown]
# ## 7. Asking and answering differ
#
# *x (5, 2) → query, key, value (5, 2) → scores (5, 5) → weights (5, 5) → context (5, 2)*
#
# Until now one vector did three jobs: it asked, it was asked, it was mixed in. **What can such attention never say?**
#
# **Guess.** By `x @ x.T`, *it* scores 0.9 with *animal*. What does *animal* score with *it*?
#
# - **A** 0.9 as well
# - **B** less: an animal needs no *it*
# - **C** that depends on the others

# %%
learn.guess("mirror", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
scores = plane @ plane.T
print(scores)
difference = (scores - scores.T).abs().max()  # .T: rows become columns
print(f"largest difference from the mirror image: {difference:.4f}")
learn.answer("mirror")

# %% [markdown]
# A dot product has no direction; asking has one. *it* needs *animal*, and not the other way round. A Python dict keeps
# the jobs apart: a *query* comes in, is compared with *keys*, and a *value* goes out.

# %%
assert torch.allclose(scores, scores.T)
wheels = {"cat": 0.0, "dog": 0.0, "car": 4.0, "bus": 6.0, "tree": 0.0}
print("the dict:", wheels["car"])

values = torch.tensor(list(wheels.values()))
for sharpness in (0, 0.1, 1, 10):  # how long the query is, as in section 4
    weights = (sharpness * plane @ plane[2]).softmax(dim=-1)  # plane[2], the car, asks
    shares = "  ".join(f"{word} {weight:.2f}" for word, weight in zip(words, weights, strict=True))
    print(f"sharpness {sharpness:4}:  {shares}   wheels: {weights @ values:.2f}")

# %% [markdown]
# A dict finds one key and returns its value. Here every key matches a little and the values are mixed: attention is
# a **soft dict**. Give each job a vector of its own: multiply x by three matrices, `W_query`, `W_key` and `W_value`.
# Such products are called **projections**. Training finds the matrices; here we choose them: queries are turned by a
# quarter, the others are left.

# %%
W_query = torch.tensor([[0.0, -1.0], [1.0, 0.0]])  # a quarter turn, clockwise
W_key = W_value = torch.eye(2)  # leaves every vector as it is
query, key, value = plane @ W_query, plane @ W_key, plane @ W_value


def attend(query, key, value):
    scores = query @ key.T
    weights = scores.softmax(dim=-1)
    return weights @ value


# %%
scores = query @ key.T
viewer.steps(
    viewer.box("x", plane),
    viewer.box("query", query, by="@ W_query"),
    viewer.box("scores", scores, by="@ key.T", columns=True),
    viewer.box("weights", scores.softmax(dim=-1), by="softmax", kind="weights", columns=True),
    viewer.box("context", attend(query, key, value), by="@ value"),
    words=words,
    title="a new box, query: cat asks for tree, tree asks for bus",
)

# %% [markdown]
# *cat* reads *tree* (0.98), *tree* reads *bus* (0.77) and not *cat*: the mirror is broken.
#
# Matrices can also read by position. Let x hold positions only, the third being `0 0 1 0 0 0`, a 1 in its own place
# (**one-hot**). Multiplied by a matrix it picks the third row. So row i of `W_query` is what position i asks, row i of
# `W_key` what it answers. Two matrices written by hand (folded away) make each word read the one before.

# %% jupyter={"source_hidden": true}
hand_query = 50 * torch.eye(6)  # position i asks: a long arrow in place i
hand_key = torch.diag(torch.ones(5), 1)  # position j answers in place j + 1: whoever comes next
by_hand = (hand_query @ hand_key.T / 6**0.5).softmax(dim=-1)  # section 8 says why we divide
viewer.weights(by_hand, tokens, title="written by hand: everyone reads the previous word")

# %% [markdown]
# *Your* has no word before it: all its scores are 0, so it reads all alike (0.17). In section 15 you will find this
# stripe in a trained model.
#
# **A real one.** A Transformer notebook made its values with the keys' matrix, so W_value did nothing. Nothing failed;
# a reader saw it: https://github.com/yflyzhang/AnnotatedTransformer/issues/1
#
# ### Exercise: previous_word ★★★ (8 min)
# Write those two matrices, each (n, n), for n positions. A long query chooses sharply (section 4).


# %%
def my_previous_word(n):
    return None  # your code: W_query, W_key


learn.exercise("previous_word")(my_previous_word)
