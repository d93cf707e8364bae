# %% [markdown]
# ## 15. A trained model, your code: what do 72 heads read?
#
# *16 tokens → x (16, 384) → 6 layers of 12 maps (16, 16) → x (16, 384)*
#
# A model that people use: all-MiniLM-L6-v2 (Apache-2.0) turns sentences into vectors. **Do your functions run it, and
# can you believe what you see?**

# %%
minilm = learn.load_minilm()  # None, and the line to install it, where it is missing
ANIMAL = "The animal didn't cross the street because it was too tired."
tired = ANIMAL  # or a sentence of your own; the numbers in the text are of this one
if minilm:
    tired_tokens = minilm.tokens(tired)
    print(*tired_tokens)  # [CLS] and [SEP] are marks that the model puts around a sentence

# %% [markdown]
# Each layer is an **encoder block**: attention, then a small network for each word alone. Both *add* to what came in,
# and a `LayerNorm` evens out the size. `split_heads`, `attend`, `merge_heads` are yours.


# %% tags=["package:encoder"]
class EncoderBlock(nn.Module):
    """Attention, then a small network for each word; each adds to its input, and the sum is normalised.

    Maps (*batch, len, d_model) to the same shape. Every word reads every word that `mask` keeps.
    """

    def __init__(self, d_model: int, num_heads: int, d_hidden: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.W_query, self.W_key, self.W_value = (nn.Linear(d_model, d_model) for _ in range(3))
        self.out_proj = nn.Linear(d_model, d_model)
        self.norm1, self.norm2 = (nn.LayerNorm(d_model, eps=1e-12) for _ in range(2))
        self.expand, self.shrink = nn.Linear(d_model, d_hidden), nn.Linear(d_hidden, d_model)

    def project(self, x: Tensor) -> list[Tensor]:
        """Query, key and value of every head, each (*batch, num_heads, len, head_dim)."""
        return [split_heads(matrix(x), self.num_heads) for matrix in (self.W_query, self.W_key, self.W_value)]

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """One new vector for each word of `x`."""
        query, key, value = self.project(x)
        x = self.norm1(x + self.out_proj(merge_heads(attend(query, key, value, mask))))
        return self.norm2(x + self.shrink(nn.functional.gelu(self.expand(x))))  # gelu: a soft max(0, x)

    def weights(self, x: Tensor) -> Tensor:
        """What every head reads, (*batch, num_heads, len, len)."""
        query, key, _ = self.project(x)
        return (query @ key.mT / key.shape[-1] ** 0.5).softmax(dim=-1)


# %% tags=["package:encoder"]
# The file calls the same matrices by longer names.
NAMES_IN_FILE = {
    "W_query": "attention.self.query",
    "W_key": "attention.self.key",
    "W_value": "attention.self.value",
}
NAMES_IN_FILE |= {"out_proj": "attention.output.dense", "norm1": "attention.output.LayerNorm"}
NAMES_IN_FILE |= {"expand": "intermediate.dense", "shrink": "output.dense", "norm2": "output.LayerNorm"}


def make_blocks(weights: dict[str, Tensor]) -> nn.ModuleList:
    """The six blocks of all-MiniLM-L6-v2, filled from the tensors of its file."""
    blocks = nn.ModuleList(EncoderBlock(384, 12, 1536) for _ in range(6))
    for layer, block in enumerate(blocks):
        for name, parameter in block.named_parameters():
            part, kind = name.split(".")
            parameter.data = weights[f"encoder.layer.{layer}.{NAMES_IN_FILE[part]}.{kind}"]
    return blocks.eval().requires_grad_(False)


# %% tags=["package:encoder"]
def embed(weights: dict[str, Tensor], ids: Tensor) -> Tensor:
    """Token numbers (len,) become vectors (len, 384): a row for the token plus one for its place, normalised."""
    words, places, kinds = (
        weights[f"embeddings.{n}_embeddings.weight"] for n in ("word", "position", "token_type")
    )
    norm = [weights[f"embeddings.LayerNorm.{n}"] for n in ("weight", "bias")]
    x = words[ids] + places[: len(ids)] + kinds[0]  # tables of words (section 1) and of places (section 6)
    return nn.functional.layer_norm(x, x.shape[-1:], *norm, eps=1e-12)


# %% tags=["package:encoder"]
def run_blocks(blocks: nn.ModuleList, x: Tensor, mask: Tensor | None = None) -> Tensor:
    """What enters the first block and what leaves each: (layers + 1, len, d_model)."""
    states = [x]
    for block in blocks:
        states.append(block(states[-1], mask))
    return torch.stack(states)


# %%
def read_sentence(sentence):
    """The vectors of a sentence after every layer, (7, len, 384), and all its weights, (6, 12, len, len)."""
    states = run_blocks(blocks, embed(minilm.weights, minilm.ids(sentence)))
    return states, torch.stack([block.weights(x) for block, x in zip(blocks, states, strict=False)])


if minilm:
    torch.set_num_threads(1)  # a sentence is little work
    blocks = make_blocks(minilm.weights)
    states, all_weights = read_sentence(tired)
    print("states", tuple(states.shape), "weights", tuple(all_weights.shape))

# %% [markdown]
# **Guess.** `[CLS]` is a mark without meaning. In how many of the 72 heads is it read most?
#
# - **A** 3
# - **B** 25
# - **C** 68

# %%
learn.guess("reads nothing", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
known_heads = {
    (0, 2): "reads the previous word",
    (3, 1): '"it" reads "animal"',
    (5, 11): "every word reads animal",
}
if minilm:
    read_most = all_weights.mean(dim=-2).argmax(dim=-1)  # the darkest column of every head
    print("heads that read [CLS] most:", int((read_most == 0).sum()))
    title = "72 heads, one sentence: a dark column at the left is [CLS]"
    display(viewer.heads(all_weights, words=tired_tokens, marked=known_heads, title=title))
learn.answer("reads nothing")

# %% [markdown]
# Layer 0, head 2 holds the stripe that you made in section 7. Take its places away:

# %%
if minilm:
    tensors = minilm.weights
    no_places = tensors | {"embeddings.position_embeddings.weight": torch.zeros(512, 384)}
    for name, source in {"as trained": tensors, "without places": no_places}.items():
        stripe = blocks[0].weights(embed(source, minilm.ids(tired)))[2].diagonal(-1)  # row i, column i - 1
        print(f"{name:15s} weight on the previous word: {stripe.mean():.2f}")
    if tired == ANIMAL:
        assert (read_most == 0).sum() >= 60  # [CLS], above
        assert all_weights[0, 2].diagonal(-1).min() > 0.99
        assert stripe.mean() < 0.3

# %% [markdown]
# The stripe is gone, so it was made of places: training found what you wrote.
#
# ### Exercise: previous_word_score ★★ (4 min)
# `weights` is (layers, heads, len, len). Return (layers, heads): how much each head reads the word before, on average
# over all words that have one. A head that always does scores 1.00.


# %%
def my_previous_word_score(weights):
    return None  # your code


learn.exercise("previous_word_score")(my_previous_word_score)

# %% [markdown]
# The famous picture: "it" reads "animal", in two heads.

# %%
if minilm:
    places = list(enumerate(tired_tokens))
    marked = [(i, j) for i, asks in places for j, read in places if (asks, read) == ("it", "animal")]
    maps = {f"layer {layer}, head {head}": all_weights[layer, head] for layer, head in ((3, 1), (5, 11))}
    if tired == ANIMAL:
        assert min(weights[marked[0]] for weights in maps.values()) > 0.6
    pictures = (viewer.weights(w, tired_tokens, title=name, marked=marked) for name, w in maps.items())
    display(viewer.grid(*pictures))

# %% [markdown]
# **Control: other rows.** On the right nearly every word reads "animal".
#
# **Control: meaning.** End with *wide* instead, and "it" is the street.

# %%
pairs = [  # the noun that the first ending means, the noun that the second means
    ("animal", "street", "The animal didn't cross the street because it was too", "tired", "wide"),
    ("trophy", "suitcase", "The trophy didn't fit in the suitcase because it was too", "big", "small"),
    ("table", "door", "The table didn't fit through the door because it was too", "wide", "narrow"),
    ("sofa", "van", "The sofa didn't fit in the van because it was too", "large", "small"),
    ("key", "lock", "The key didn't fit in the lock because it was too", "thick", "tight"),
    ("boat", "bridge", "The boat hit the bridge because it was too", "tall", "low"),
    ("truck", "bus", "The truck passed the bus because it was so", "fast", "slow"),
    ("ball", "window", "The ball broke the window because it was so", "hard", "thin"),
    ("hammer", "plate", "The hammer broke the plate because it was so", "heavy", "fragile"),
    ("rock", "car", "The rock crushed the car because it was so", "heavy", "weak"),
    ("dog", "cat", "The dog chased the cat because it was", "hungry", "afraid"),
    ("fish", "worm", "The fish ate the worm because it was", "hungry", "tasty"),
    ("bear", "salmon", "The bear caught the salmon because it was", "quick", "slow"),
    ("horse", "child", "The horse carried the child because it was", "strong", "tired"),
]


# %%
def leaning(first, second, sentence):
    """How much more "it" reads the first noun than the second, in every head: (6, 12)."""
    place = minilm.tokens(sentence).index
    row = read_sentence(sentence)[1][:, :, place("it")]
    return row[..., place(first)] - row[..., place(second)]


# %% [markdown]
# **Guess.** In how many of 14 such pairs does layer 3, head 1 change its mind?
#
# - **A** 13
# - **B** 7
# - **C** 0

# %%
learn.guess("changes its mind", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
if minilm:
    leans = [[leaning(a, b, f"{start} {end}.") for end in ends] for a, b, start, *ends in pairs]
    leans = torch.stack([torch.stack(both) for both in leans])  # (14, 2, 6, 12)
    changed = (leans[:, 0] > 0) != (leans[:, 1] > 0)
    correct = (leans[:, 0] > 0).sum(dim=0) + (leans[:, 1] < 0).sum(dim=0)
    print(f"layer 3, head 1: changes its mind {changed[:, 3, 1].sum()} times, right in {correct[3, 1]} of 28")
    print(f"the best of all 72 heads is right in {correct.max()} of 28")
learn.answer("changes its mind")

# %% jupyter={"outputs_hidden": true}
if minilm:
    assert changed[:, 3, 1].sum() <= 1
    assert correct.max() <= 20
    dots = leans[:, :, 3, 1].tolist()
    texts = [start.split(" because")[0] for _, _, start, *_ in pairs]
    rows = [(text, b, a, *two) for text, (a, b, *_), two in zip(texts, pairs, dots, strict=True)]
    display(viewer.pairs(rows, title="One word changes the meaning; the head does not follow"))

# %% [markdown]
# Never. This head reads a noun, without knowing which: 0.68 is a number, not a reason.
#
# **A real one.** A user saw a model look mostly at `<s>` and full stops, and wondered why:
# https://github.com/jessevig/bertviz/issues/84
#
# What of the dark column? Compare what is *read* with what is *moved*, weight times the length of the value:

# %%
if minilm:
    values = torch.stack([block.project(x)[2] for block, x in zip(blocks, states, strict=False)])
    moved = all_weights * values.norm(dim=-1).unsqueeze(-2)  # column j times the length of value j
    read_mean, moved_mean = all_weights.mean(dim=1), moved.mean(dim=1)  # of the 12 heads of a layer
    share = moved_mean[..., 0].sum(dim=-1) / moved_mean.sum(dim=(1, 2))
    if tired == ANIMAL:
        assert read_mean[1:5, :, 0].mean() > 0.45
        assert share.max() < 0.1
    display(viewer.sinks(read_mean, moved_mean, word="[CLS]", title="Read by all, moving next to nothing"))

# %% [markdown]
# Weights must sum to one, so a head with nothing to say reads a word that says nothing, a **sink**.
#
# Back to "bank". Nobody told the height about money or rivers.

# %%
mine = "The bank closed my account."  # put your own sentence here; it needs the word bank
if minilm:
    display(learn.fan_of_bank(minilm))
    height = learn.minilm.bank_heights(minilm, [mine])[0, -1].item()
    print(f"{mine}  {'money' if height > 0 else 'river'}, height {height:+.1f}")

# %% [markdown]
# The neighbours win, right or wrong: the boatman's bank lends, and ends with the rivers.
#
# **Control: fresh sentences,** which had no say in the direction.

# %%
fresh_money = """refused to lend us more, opened an account for her, sent a statement every month, cashed my cheque,
    lost millions on bad debts, pays three percent on savings, froze his credit card, has a branch in London"""
fresh_river = """was steep and slippery, was lined with willows, flooded after the heavy rain, rose above the stream,
    was eroded by the current, was home to otters and frogs, was thick with mud, dropped into the deep pool"""
if minilm:
    fresh = [[f"The bank {end.strip()}." for end in ends.split(",")] for ends in (fresh_money, fresh_river)]
    money_heights, river_heights = (
        learn.minilm.bank_heights(minilm, sentences)[:, -1] for sentences in fresh
    )
    on_their_side = int((money_heights > 0).sum() + (river_heights < 0).sum())
    print(f"{on_their_side} of 16 fresh sentences end on their own side")
    assert on_their_side >= 13


# %%
def bank_vectors(sentence, alone):
    """The vectors of "bank" after every layer, (7, 384); alone: its row of the mask keeps only itself."""
    x, place = embed(minilm.weights, minilm.ids(sentence)), minilm.tokens(sentence).index("bank")
    mask = torch.ones(len(x), len(x), dtype=torch.bool)
    if alone:
        mask[place] = torch.arange(len(x)) == place
    return run_blocks(blocks, x, mask)[:, place]


# %% [markdown]
# **Control: no attention.** In every layer "bank" may read only itself.
#
# **Guess.** What becomes of the fan?
#
# - **A** it stays as wide
# - **B** it gets half as wide
# - **C** it closes to one line

# %%
learn.guess("bank alone", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
if minilm:
    for alone in (False, True):
        eight = [bank_vectors(sentence, alone) for sentence in learn.minilm.MONEY + learn.minilm.RIVER]
        apart = (torch.stack(eight) - torch.stack(eight).mean(dim=0)).norm(dim=-1).amax(dim=0)
        told = "alone: " if alone else "as it is: "
        print(f"{told:10} furthest from the mean, table to layer 6:", *(f"{far:.2g}" for far in apart))
    torch.set_num_threads(threads)  # above, 6e-07 and the like is rounding
learn.answer("bank alone")

# %%
if minilm:
    assert apart.max() < 1e-4

# %% [markdown]
# Attention made the fan. A claim, a control, a verdict: keep the habit.
