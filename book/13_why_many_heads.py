# %% [markdown]
# ## 13. Why many heads: two questions need two
#
# *x (batch, len, d_in) → query, key, value, context (batch, heads, len, head_dim) → output (batch, len, d_out)*
#
# One query gives one mixture, one point in the hull. **What if a word needs two things?** Let several attentions,
# **heads**, work side by side, each with matrices of its own, and join their contexts end to end (`torch.cat`):

# %% tags=["package"]
class MultiHeadAttentionWrapper(nn.Module):
    """Several `CausalAttention` side by side, their contexts put one after another.

    Maps (*batch, len, d_in) to (*batch, len, d_out * num_heads): d_out is the width of each head.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        check_heads("MultiHeadAttentionWrapper", d_out * num_heads, num_heads)
        self.heads = nn.ModuleList(
            CausalAttention(d_in, d_out, context_length, dropout, qkv_bias) for _ in range(num_heads)
        )

    def forward(self, x: Tokens) -> Output:
        """Each head's context for each token of `x`, head 0 first."""
        return torch.cat([head(x) for head in self.heads], dim=-1)


# %%
torch.manual_seed(123)
# its heads are in an nn.ModuleList, a list whose modules PyTorch knows
wrapper = MultiHeadAttentionWrapper(3, 2, context_length=6, dropout=0.0, num_heads=2)
print(wrapper(inputs).detach())
assert torch.allclose(wrapper(inputs)[:, :2], causal(inputs), atol=1e-6)  # head 0 is the layer of section 11
assert torch.allclose(wrapper(inputs)[0], torch.tensor([-0.4519, 0.2216, 0.4772, 0.1063]), atol=1e-4)
assert torch.allclose(wrapper(inputs)[5], torch.tensor([-0.5299, -0.1081, 0.5077, 0.3493]), atol=1e-4)

# %% [markdown]
# A test. Five cards, a letter and a digit each; a question names *two* letters: which digits? One layer answers, with
# one head of 32 numbers or two of 16: 6,324 parameters either way. The **loss** says how wrong it is; training moves
# every parameter a little, so that the loss falls.


# %%
def deal(games):
    # argsort: in which order the numbers would be sorted; of random ones, a shuffle of 0 to 11
    letters = torch.rand(games, 12).argsort(dim=1)[:, :5]  # five different letters of twelve
    digits = torch.randint(10, (games, 5))
    asked = torch.rand(games, 5).argsort(dim=1)[:, :2]  # two of the five cards
    # gather: from each row the columns that are asked for
    return letters, digits, letters.gather(1, asked), digits.gather(1, asked)


# %%
class CardPlayer(nn.Module):
    def __init__(self, num_heads, width=32):
        super().__init__()
        # an Embedding is a table of vectors, a row for each letter or digit; training fills it
        self.letter, self.digit = nn.Embedding(12, width), nn.Embedding(10, width)
        self.first, self.second = nn.Embedding(12, width), nn.Embedding(12, width)
        self.attention = MultiHeadAttentionWrapper(width, width // num_heads, 6, 0.0, num_heads)
        self.join = nn.Linear(width, width)
        # one after the other: LayerNorm brings each vector to one size; Linear scores 2 x 10 digits
        self.answer = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, 20))

    def tokens(self, letters, digits, asked):
        question = self.first(asked[:, :1]) + self.second(asked[:, 1:])
        return torch.cat([self.letter(letters) + self.digit(digits), question], dim=1)  # (games, 6, width)

    def forward(self, letters, digits, asked):
        x = self.tokens(letters, digits, asked)
        read = x + self.join(self.attention(x))  # what was read is added to what was there
        return self.answer(read[:, -1]).view(-1, 2, 10)  # [:, -1]: the question stands last


# %%
def train_player(num_heads, width=32):
    torch.manual_seed(13)
    player = CardPlayer(num_heads, width)
    optimizer = torch.optim.AdamW(player.parameters(), lr=1e-2)  # lr: how large a step is
    for _ in range(300):
        *game, wanted = deal(64)  # wanted is the last of the four, game the list of the others
        said = player(*game).flatten(0, 1)  # 64 x 2 answers in one axis
        loss = nn.functional.cross_entropy(said, wanted.flatten())  # 0 where the right digit has all weight
        optimizer.zero_grad()  # forget the gradients of the step before
        loss.backward()  # the gradient of the loss for each parameter
        optimizer.step()  # a small step downhill
    return player


# %%
@torch.no_grad()  # no training here, so nothing is kept for gradients
def both_right(player):
    *game, wanted = deal(2000)
    best = player(*game).argmax(dim=-1)  # argmax: where the largest score stands
    return (best == wanted).all(dim=1).float().mean().item()


# %% [markdown]
# **Guess.** How often are both right: one head, two heads?
#
# - **A** 10 % and 100 %
# - **B** 50 % and 100 %
# - **C** 90 % and 100 %

# %%
learn.guess("two questions", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
threads = torch.get_num_threads()
torch.set_num_threads(1)  # for sums this small one thread is the fastest
players = {
    "one head": train_player(1),
    "two heads": train_player(2),
    "one wide head": train_player(1, width=64),
}
torch.set_num_threads(threads)
right = {name: both_right(player) for name, player in players.items()}
for name, player in players.items():
    size = sum(parameter.numel() for parameter in player.parameters())
    print(f"{name:14}{size:6,} parameters, both right {right[name]:.0%}")
learn.answer("two questions")

# %% [markdown]
# Twice the width does not help one head. What did they read?

# %%
assert max(right["one head"], right["one wide head"]) <= 0.25
assert right["two heads"] >= 0.9
torch.manual_seed(5)
*game, wanted = deal(1)
cards = [f"{'abcdefghijkl'[letter]}{digit}" for letter, digit in zip(game[0][0], game[1][0], strict=True)]
asked = " and ".join("abcdefghijkl"[letter] for letter in game[2][0])
maps = []
for name in ("one head", "two heads"):
    x, read = players[name].tokens(*game)[0], []
    for head in players[name].attention.heads:
        query, key = head.W_query(x[-1:]), head.W_key(x)  # the question asks
        read.append((query @ key.mT / key.shape[-1] ** 0.5).softmax(dim=-1))
    rows, title = [f"head {h}" for h in range(len(read))], f"{name}: both right {right[name]:.0%}"
    maps.append(viewer.cards(torch.cat(read), [*cards, "?"], rows, title))
viewer.grid(*maps, title=f"asked for {asked}: what the question reads")

# %% [markdown]
# One head finds one card and guesses the other digit. Two heads find both.
#
# A loop over heads is slow. Put their matrices side by side: one wide product, its columns cut into runs:

# %%
viewer.split_columns(6, 3, tokens=4, title="heads are runs of neighbours")

# %% [markdown]
# ### Exercise: split_heads ★★ (core, 4 min)
# From (batch, len, width) to (batch, num_heads, len, head_dim), as in the picture. `x.view(sizes)` cuts and joins axes
# in reading order; `x.transpose(i, j)` exchanges two.


# %%
def my_split_heads(x, num_heads):
    return None  # your code


learn.exercise("split_heads")(my_split_heads)

# %% [markdown]
# ### Exercise: merge_heads ★★ (core, 4 min)
# The way back, from (batch, num_heads, len, head_dim) to (batch, len, width). After a transpose `view` may refuse;
# `reshape` does the same and copies if it must.


# %%
def my_merge_heads(context):
    return None  # your code


learn.exercise("merge_heads")(my_merge_heads)

# %% [markdown]
# `unflatten` cuts an axis in two (−1: the rest), `flatten(-2)` joins the last two:


# %% tags=["package"]
def split_heads(x: Tensor, num_heads: int) -> Tensor:
    """(*batch, len, num_heads * head_dim) to (*batch, num_heads, len, head_dim): a head is a run of neighbours."""
    return x.unflatten(-1, (num_heads, -1)).transpose(-3, -2)


def merge_heads(context: Tensor) -> Tensor:
    """(*batch, num_heads, len, head_dim) to (*batch, len, num_heads * head_dim): the way back."""
    return context.transpose(-3, -2).flatten(-2)


# %% tags=["package"]
class MultiHeadAttention(nn.Module):
    """Causal attention by `num_heads` heads of d_out / num_heads numbers each, and a last projection.

    Maps (*batch, len, d_in) to (*batch, len, d_out), len up to context_length.
    """

    def __init__(
        self,
        d_in: int,
        d_out: int,
        context_length: int,
        dropout: float,
        num_heads: int,
        qkv_bias: bool = False,
    ) -> None:
        super().__init__()
        check_dropout("MultiHeadAttention", dropout)
        check_heads("MultiHeadAttention", d_out, num_heads)
        self.d_out, self.num_heads, self.head_dim = d_out, num_heads, d_out // num_heads
        self.context_length = context_length
        self.W_query = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_key = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.W_value = nn.Linear(d_in, d_out, bias=qkv_bias)
        self.out_proj = nn.Linear(d_out, d_out)
        self.dropout = nn.Dropout(dropout)
        accept_stored_mask(self)

    def forward(self, x: Tokens) -> Output:
        """One vector for each token of `x`, from itself and the tokens before it."""
        check_tokens("MultiHeadAttention", x, d_in=self.W_query.in_features)
        check_length("MultiHeadAttention", x, self.context_length)
        query = split_heads(self.W_query(x), self.num_heads)
        key = split_heads(self.W_key(x), self.num_heads)
        value = split_heads(self.W_value(x), self.num_heads)
        return self.out_proj(merge_heads(self.attend(query, key, value)))

    def attend(self, query: Query, key: Key, value: Value) -> Context:
        """What each head reads. The package does just this line in another way."""
        mask = causal_mask(query.shape[-2], key.shape[-2], device=query.device)
        return attend(query, key, value, mask, self.dropout)


# %%
torch.manual_seed(123)
multi = MultiHeadAttention(3, 2, context_length=6, dropout=0.0, num_heads=2)
print(multi(inputs).detach())
printed = [
    [0.3190, 0.4858],
    [0.2943, 0.3897],
    [0.2856, 0.3593],
    [0.2693, 0.3873],
    [0.2639, 0.3928],
    [0.2575, 0.4028],
]
assert torch.allclose(multi(inputs), torch.tensor(printed), atol=1e-4)

# %% [markdown]
# `out_proj` mixes the heads. The rest is the wrapper; copy its parameters and compare:

# %%
joined = MultiHeadAttention(3, 4, context_length=6, dropout=0.0, num_heads=2)
with torch.no_grad():
    for name in ("W_query", "W_key", "W_value"):
        stacked = torch.cat([getattr(head, name).weight for head in wrapper.heads])  # (2 + 2, 3)
        getattr(joined, name).weight.copy_(stacked)
    joined.out_proj.weight.copy_(torch.eye(4))
    joined.out_proj.bias.zero_()
print(f"largest difference: {(joined(inputs) - wrapper(inputs)).abs().max():.0e}")
assert torch.allclose(joined(inputs), wrapper(inputs), atol=1e-6)

# %% [markdown]
# Two shortcuts leave `transpose` out. The *shape* is right, the numbers are not: `view` and `reshape` only count on in
# reading order. Which output depends on which input? Past blue, future orange:


# %%
class SplitByView(MultiHeadAttention):
    def forward(self, x):
        shape = (len(x), self.num_heads, -1, self.head_dim)
        query, key, value = (W(x).view(shape) for W in (self.W_query, self.W_key, self.W_value))
        return self.out_proj(merge_heads(self.attend(query, key, value)))


class MergedByReshape(MultiHeadAttention):
    def forward(self, x):
        projected = self.W_query(x), self.W_key(x), self.W_value(x)
        query, key, value = (split_heads(each, self.num_heads) for each in projected)
        return self.out_proj(self.attend(query, key, value).reshape(len(x), -1, self.d_out))


# %%
kinds = {"ours": MultiHeadAttention, "split by view": SplitByView, "merged by reshape": MergedByReshape}
fingers = {}
for name, kind in kinds.items():
    torch.manual_seed(4)
    fingers[name] = learn.influence(kind(6, 12, context_length=8, dropout=0.0, num_heads=3), d_in=6)
assert fingers["ours"].triu(1).max() == 0  # triu(1): above the diagonal, the future
viewer.fingerprints(fingers, title="the same mask, but two ways to cut and join read the future")

# %% [markdown]
# `learn.xray(module)` draws this for your own class.
#
# **Real ones.** A tutorial merged by reshape, and the test that trained it passed:
# https://github.com/jsbaan/transformer-from-scratch/pull/6 and a library split by view, in three of its models:
# https://github.com/reczoo/FuxiCTR/issues/30
#
# ### Exercise: multi_head ★★★ (12 min)
# The whole layer as one function: causal, without dropout. The matrices are used as `x @ W`; W_out is the last
# projection. You may call everything that stands above.


# %%
def my_multi_head(x, W_query, W_key, W_value, W_out, num_heads):
    return None  # your code


learn.exercise("multi_head")(my_multi_head)

# %% [markdown]
# The package exchanges one method, `attend`, for faster code. Equal?

# %%
import attnkit as ak

package = ak.MultiHeadAttention(3, 2, context_length=6, dropout=0.0, num_heads=2)
package.load_state_dict(multi.state_dict())  # all parameters, by name
print(f"largest difference: {(package(batch) - multi(batch)).abs().max():.0e}")
assert torch.allclose(package(batch), multi(batch), atol=1e-6)

gpt2 = MultiHeadAttention(768, 768, context_length=1024, dropout=0.1, num_heads=12, qkv_bias=True)
print(f"one attention layer of the size in GPT-2: {sum(p.numel() for p in gpt2.parameters()):,} parameters")

# %% [markdown]
# That ends the second sitting: you have built the layer that GPT-2 holds twelve times.
