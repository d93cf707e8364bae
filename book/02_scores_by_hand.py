# %% [markdown]
# ## 2. Who matters to whom? A score answers
#
# *query (3) and keys (6, 3) → scores (6)*
#
# Six words, three numbers each: `Your journey starts with one step`, the example of chapter 3 of *Build a
# Large Language Model (From Scratch)*. If you know that book, you will meet its printed numbers. **How much
# should one word listen to another?**

# %%
tokens = ["Your", "journey", "starts", "with", "one", "step"]
inputs = torch.tensor(
    [
        [0.43, 0.15, 0.89],  # Your
        [0.55, 0.87, 0.66],  # journey
        [0.57, 0.85, 0.64],  # starts
        [0.22, 0.58, 0.33],  # with
        [0.77, 0.25, 0.10],  # one
        [0.05, 0.80, 0.55],  # step
    ]
)

# %% [markdown]
# The vector of the word that asks is the **query**; the vector of a word that is asked is a **key**.
# Multiply the two number by number and add up: the dot product. It is large when both have large numbers in the
# same places. We call it the **score**.

# %%
query = inputs[1]  # "journey" asks; Python counts from 0
scores = torch.zeros(6)
for i, key in enumerate(inputs):
    for d in range(3):
        scores[i] += query[d] * key[d]
    print(f"journey reads {tokens[i]:8}{scores[i]:8.4f}")

printed = torch.tensor([0.9544, 1.4950, 1.4754, 0.8434, 0.7070, 1.0865])  # in the book
assert torch.allclose(scores, printed, atol=1e-4)  # allclose: equal, but for 0.0001

# %% [markdown]
# *journey* scores highest with itself.
#
# **Guess.** Let *with* ask. With which word does it score highest?
#
# - **A** with itself
# - **B** with *journey*
# - **C** with *one*

# %%
learn.guess("with reads", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
# torch.dot does the inner loop: multiply number by number, add up
for token, key in zip(tokens, inputs, strict=True):
    print(f"with reads {token:8}{torch.dot(inputs[3], key):8.4f}    length of {token}: {key.norm():.2f}")
learn.answer("with reads")

# %% [markdown]
# A score grows with how well two vectors point the same way *and* with their lengths. To see it, take
# five words of two numbers each, which can be drawn as arrows on paper. From here on the six words carry the
# numbers of the book and these five the pictures.

# %%
words = ["cat", "dog", "car", "bus", "tree"]
# two numbers a word, ours to choose: move them, run on, and all pictures follow
plane = torch.tensor([[1.9, 1.1], [1.2, 1.9], [-1.7, 1.0], [-2.0, -0.3], [0.5, -2.0]])
arrows = dict(zip(words, plane.tolist(), strict=True))
bus_scores = [torch.dot(plane[3], key).item() for key in plane]  # item: a plain Python number
notes = {word: f"{score:+.1f}" for word, score in zip(words, bus_scores, strict=True)}
title = "bus asks: same way is positive, opposite is negative"
viewer.vectors(arrows, notes=notes, colors={"bus": "black"}, title=title)

# %% [markdown]
# Beside each arrow stands its score with *bus*: +4.1 with itself, +3.1 with its neighbour *car*, −0.4 with
# *tree* at nearly a right angle, −4.1 with *cat*, which points the other way.
#
# ### Exercise: scores ★ (core, 2 min)
# One query of d numbers, shape (d,), asks kv_len keys, shape (kv_len, d): return all kv_len scores. One product
# of a matrix and a vector, written `matrix @ vector`, does it without a loop.


# %%
def my_scores(query, keys):
    return None  # your code


learn.exercise("scores")(my_scores)  # stuck? learn.hint("scores"), then learn.solution("scores")
