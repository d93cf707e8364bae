# %% [markdown]
# ## 17. Where next: one sentence asks another
#
# *x (3, 2) asks, memory (5, 2) answers → weights (3, 5) → context (3, 2)*
#
# So far a sentence read itself. A translator writes one sentence while it reads another. **What has to change?** Only
# where keys and values come from. What is read is called the **memory**, and this is **cross-attention**, ten lines:

# %%
class CrossAttention(nn.Module):
    def __init__(self, d_in, d_out):
        super().__init__()
        self.W_query = nn.Linear(d_in, d_out, bias=False)
        self.W_key = nn.Linear(d_in, d_out, bias=False)
        self.W_value = nn.Linear(d_in, d_out, bias=False)

    def forward(self, x, memory):
        query, key, value = self.W_query(x), self.W_key(memory), self.W_value(memory)
        return attend(query, key, value)


# %% [markdown]
# **Guess.** Three French words ask, the five words of the plane answer. What shape do the weights have?
#
# - **A** (3, 3)
# - **B** (3, 5)
# - **C** (5, 3)

# %%
learn.guess("cross shape", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
# placed by hand near cat, car and tree
french = {"chat": (3.0, 0.3), "voiture": (-2.2, 2.0), "arbre": (0.6, -2.4)}
questions_asked = torch.tensor(list(french.values()))
cross_weights = (questions_asked @ plane.T / 2**0.5).softmax(dim=-1)  # W_query and W_key change nothing here
print("shape of the weights:", tuple(cross_weights.shape))
learn.answer("cross shape")
viewer.weights(cross_weights, list(french), words, title="Three words ask, five are read")

# %% [markdown]
# A row for each word that asks, a column for each that is read. Nothing is hidden: none of the memory is the future.
#
# **A real one.** A survey of language models had the roles the wrong way round:
# https://github.com/humza909/LLM_Survey/issues/2
#
# ### Exercise: cross_attention ★★ (5 min)
# x is (len of x, d), memory is (len of memory, d), each matrix (d, d_out). Return one context for each row of x. Scale
# as usual.


# %%
def my_cross_attention(x, memory, W_query, W_key, W_value):
    return None  # your code


learn.exercise("cross_attention")(my_cross_attention)

# %% [markdown]
# ### From these cells to your own work
# `ak.MultiHeadAttention` has your parameters and gives your numbers. Its `attend` is a **rule**: it says what is computed,
# not how: as `eager`, the formula that you wrote; as `sdpa`, PyTorch's fused attention; as `tiled` or `flex`, which skip
# what a mask hides.

# %%
import attnkit as ak

rule = ak.Rule(mask=ak.masks.causal)
torch.manual_seed(0)
query, key, value = 3 * torch.randn(3, 2, 6, 8)  # cut along the first axis; each (heads, len, head_dim)
assert torch.allclose(rule(query, key, value), attend(query, key, value, causal_mask(6, 6)), atol=1e-5)
print(rule.explain(query, key, value))

# %% [markdown]
# Fused code keeps no weights. `inspect` gives what it hides: all weights, some rows, how spread out each row is (the
# entropy of section 8, not yet divided by the largest it could be).

# %%
seen = rule.inspect(query, key)
print("weights", tuple(seen.weights().shape), " two rows", tuple(seen.rows([0, 5]).shape))
print("entropy of each row of head 0:", *(f"{entropy:.2f}" for entropy in seen.entropy()[0]))

# %% [markdown]
# Masks combine with `&`, `|` and `~`: `ak.masks.causal & ak.masks.lengths([6, 4])` also hides padding.
#
# Whatever attention you meet next, ask it what you asked here. Does the past stay when the future changes? Does it equal
# its formula? What would prove the picture wrong?
#
# Last, how well you guessed and what you solved, with the section to read again:

# %%
learn.score()
