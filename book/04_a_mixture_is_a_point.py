# %% [markdown]
# ## 4. A mixture is a point among the words
#
# *weights (6) and values (6, 3) → context (3)*
#
# Now mix. The vectors that are mixed are the **values**. So far a word's query, key and value are all the same
# vector; section 7 parts them. The mixture is the **context**: each value times its weight, added up.
# **Where can a context lie?**

# %%
def mix(weights, values):
    context = torch.zeros(values.shape[1])  # shape[1]: how many numbers a row has
    for weight, value in zip(weights, values, strict=True):
        context += weight * value
    return context


context = mix(weights, inputs)
print("context of journey:", context)
assert torch.allclose(context, torch.tensor([0.4419, 0.6515, 0.5683]), atol=1e-4)

# %%
dog_weights = softmax(plane @ plane[1])  # a matrix @ a vector: all five scores of dog
viewer.mixture(plane, dog_weights, words, title="dog asks: 0.66 of dog and 0.33 of cat make its context")

# %% [markdown]
# Each value (grey) shrinks to its share (blue); put end to end, the shares lead to the context (orange).
#
# **Guess.** Can a context be longer than every value?
#
# - **A** yes, with the right query
# - **B** never
# - **C** only if some scores are negative

# %%
learn.guess("longest context", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
torch.manual_seed(1)
longest = 0.0
for _ in range(2000):
    query = 5 * torch.randn(2)  # any direction, short and long
    longest = max(longest, mix(softmax(plane @ query), plane).norm().item())
longest_value = plane.norm(dim=-1).max().item()  # the length of each row; the largest of them
print(f"longest of 2,000 contexts {longest:.3f}, longest value {longest_value:.3f}")
learn.answer("longest context")

# %% [markdown]
# Shares that are never negative and sum to one land inside the rubber band around the values, their
# **hull**. Let a query go once round the circle: its context draws a loop. We try six lengths of query.

# %%
assert longest <= longest_value + 1e-5  # from above, but for rounding
turn = torch.linspace(0, 2 * math.pi, 181)  # 181 angles, once round the circle
circle = torch.stack([turn.cos(), turn.sin()], dim=-1)  # (181, 2): queries of length 1
loops = {}
for length in (0.25, 0.5, 1, 2, 4, 16):
    loops[f"{length:g}"] = torch.stack([mix(softmax(plane @ (length * query)), plane) for query in circle])
viewer.hull(plane, loops, words, title="short queries average, long ones choose", key="query length")

# %% [markdown]
# Every point of a loop is the context of one query; the corners are the words. The length of a query sets how
# sharply it chooses: 0.25 stays near the average (+), 16 jumps from corner to corner. None leaves the hull. Section
# 8 comes back to the corners, section 11 to the hull.
#
# ### Exercise: context ★ (2 min)
# weights (kv_len,) and values (kv_len, d): return their mixture (d,), without a loop. A vector may also
# stand to the left of a matrix: `vector @ matrix`.


# %%
def my_context(weights, values):
    return None  # your code


learn.exercise("context")(my_context)
