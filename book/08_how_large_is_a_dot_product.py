# %% [markdown]
# ## 8. Long vectors shout, and training goes deaf: divide
#
# *query (500, 1, head_dim), key (500, 16, head_dim) → scores (500, 1, 16)*
#
# A score adds up **head_dim** products, as many as a query or a key has numbers. Here that was 2 or 3; trained models
# have 64 or 128, and more numbers make a longer vector. **Do scores stay of one size?**
#
# **Guess.** Add 64 products, each about 1 in size, plus or minus by chance. The sum is typically about
#
# - **A** 1: they cancel
# - **B** 8
# - **C** 64

# %%
learn.guess("sum of 64", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
torch.manual_seed(8)
head_dims = [2**n for n in range(11)]
by_size = {}
for head_dim in head_dims:
    query = torch.randn(500, 1, head_dim)  # 500 queries
    key = torch.randn(500, 16, head_dim)  # and 16 keys for each
    # with three axes, @ multiplies the 500 pairs of tables one by one; .mT swaps the last two axes only
    by_size[head_dim] = query @ key.mT
spread = [scores.std().item() for scores in by_size.values()]  # std: how far from 0 they typically lie
for head_dim in (1, 16, 64, 256):
    print(f"head_dim {head_dim:3}: spread of the scores {by_size[head_dim].std():6.2f}")
learn.answer("sum of 64")

# %%
viewer.powers(
    head_dims,
    {"spread of the scores": spread},
    slopes={"spread of the scores": ("root of head_dim", 0.5)},
    xlabel="head_dim",
    title="measured dots on the line of the root",
)

# %% [markdown]
# The spread *is* the root of head_dim. Does it matter? Compare scores as they are with scores divided by that root, in
# two numbers. **Entropy**: how even a row of weights is, from 1 (all alike) to 0 (a single key). **Gradient** at the
# scores: how much the contexts change when a score changes a little. Training moves a number only as far as its
# gradient tells it to: where that is 0, nothing is learned.

# %%
value = torch.randn(500, 16, 1)


def look(divide):
    weights, entropy, gradient = [], [], []
    for head_dim, scores in by_size.items():
        # requires_grad_: note from here on how later numbers depend on these
        scores = (scores / (head_dim**0.5 if divide else 1)).requires_grad_()
        shares = scores.softmax(dim=-1)
        (shares @ value).sum().backward()  # follow the notes back; the gradient comes to lie in scores.grad
        weights.append(shares[0, 0].detach())  # the first of 500 queries; detach: without the notes
        uneven = torch.special.entr(shares).sum(dim=-1).mean()  # entr(w) is -w log w
        entropy.append(uneven.item() / math.log(16))  # log(16) is that of 16 equal weights
        gradient.append(scores.grad.norm(dim=-1).median().item())  # median: the middle one of 500
    return torch.stack(weights), entropy, gradient


# %%
title = "not divided, one key takes all and learning stops"
viewer.saturation(head_dims, look(divide=False), look(divide=True), title=title)

# %% [markdown]
# At the left, a column is one query's weights for its 16 keys, dark where they are near 1. Not divided (orange), a
# query with many numbers reads a single key, and the middle one of 500 queries has no gradient left. (A few queries
# with two keys nearly level have a huge one; a mean would show only those, hence the middle one.) Divided (blue),
# head_dim makes no difference.
#
# **A real one.** The code of Andrej Karpathy's GPT lecture divided by the root of the *model's* width, not of head_dim.
# A reader saw it: https://github.com/karpathy/ng-video-lecture/pull/6
#
# ### Exercise: scaled_scores ★ (2 min)
# query (heads, q_len, head_dim), key (heads, kv_len, head_dim): return (heads, q_len, kv_len), divided by the right root.
# The first axis is only carried along, as the 500 were.


# %%
def my_scaled_scores(query, key):
    return None  # your code


learn.exercise("scaled_scores")(my_scaled_scores)

# %% [markdown]
# From here on `attend` divides:


# %%
def attend(query, key, value):
    scores = query @ key.mT / key.shape[-1] ** 0.5
    weights = scores.softmax(dim=-1)
    return weights @ value
