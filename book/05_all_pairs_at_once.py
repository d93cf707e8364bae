# %% [markdown]
# ## 5. All pairs at once, and what that costs
#
# *x (6, 3) → scores (6, 6) → weights (6, 6) → context (6, 3)*
#
# Now every word asks every word. Three lines do it for the whole sentence. **What do they cost?**

# %%
scores = inputs @ inputs.T  # .T exchanges rows and columns; entry (i, j) is word i dot word j
weights = scores.softmax(dim=-1)  # every row sums to one: row i asks, column j is read
context = weights @ inputs  # row i mixes all values with the weights of row i
print("weights:", weights, "context:", context, sep="\n")

# %%
first = torch.tensor([0.2098, 0.2006, 0.1981, 0.1242, 0.1220, 0.1452])
last = torch.tensor([0.1385, 0.2184, 0.2128, 0.1420, 0.0988, 0.1896])
assert torch.allclose(weights[0], first, atol=1e-4)  # as printed in the book
assert torch.allclose(weights[5], last, atol=1e-4)
first_half = [[0.4421, 0.5931, 0.5790], [0.4419, 0.6515, 0.5683], [0.4431, 0.6496, 0.5671]]
second_half = [[0.4304, 0.6298, 0.5510], [0.4671, 0.5910, 0.5266], [0.4177, 0.6503, 0.5645]]
assert torch.allclose(context, torch.tensor(first_half + second_half), atol=1e-4)


# %%
def strip(x, words, title):  # draws the stages side by side
    weights = (x @ x.T).softmax(dim=-1)
    return viewer.steps(
        viewer.box("x", x),
        viewer.box("scores", x @ x.T, by="x @ x.T", columns=words),
        viewer.box("weights", weights, by="softmax", kind="weights", columns=words),
        viewer.box("context", weights @ x, by="@ x"),
        words=words,
        title=title,
    )


# %%
strip(plane, words, title="cat and dog read each other, so do car and bus; tree reads itself")

# %% [markdown]
# Read it from left to right: under each arrow stands what it does. Red is positive and blue negative; weights go
# from white (0) to dark blue (1). A row belongs to the word that asks, a column to the word that is read. This
# strip is all of attention. Later sections put boxes in between; nothing else moves.
#
# ### Exercise: attend ★ (core, 3 min)
# x holds a sentence, (len, d): return all contexts, (len, d). Nothing is learned or divided yet.


# %%
def my_attend(x):
    return None  # your code


learn.exercise("attend")(my_attend)

# %% [markdown]
# Now the price. `read_all` is the three lines in one; `two_loops` makes the scores word by word, as in section 2.
# We count the seconds in which the processor works for this notebook, on one core, and keep the shortest of several
# runs.


# %%
def read_all(x):
    return (x @ x.T).softmax(dim=-1) @ x


def two_loops(x):
    scores = torch.zeros(len(x), len(x))
    for i in range(len(x)):
        for j in range(len(x)):
            scores[i, j] = torch.dot(x[i], x[j])
    return scores


# %%
def seconds(work, x, repeats):
    threads, shortest = torch.get_num_threads(), math.inf
    torch.set_num_threads(1)  # one core; set back below
    for _ in range(repeats):
        start = time.process_time()
        work(x)
        shortest = min(shortest, time.process_time() - start)
    torch.set_num_threads(threads)
    return max(shortest, 1e-6)  # some clocks tick slowly


# %% [markdown]
# **Guess.** 128 words of 64 numbers: how many times faster is `x @ x.T` than two loops over all pairs?
#
# - **A** about 10
# - **B** about 100
# - **C** above 1,000

# %%
learn.guess("loop", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
x = torch.randn(128, 64)
looped = seconds(two_loops, x, repeats=2)
at_once = seconds(lambda x: x @ x.T, x, repeats=50)  # lambda: a function of x without a name
print(f"two loops {looped * 1e3:.0f} ms, matrix product {at_once * 1e3:.3f} ms")
print(f"{looped / at_once:,.0f} times faster")
learn.answer("loop")

# %% [markdown]
# **Guess.** From 128 words to 2,048, 16 times as many: the time of the three lines grows by a factor of
# about
#
# - **A** 16
# - **B** 64
# - **C** 256

# %%
learn.guess("sixteen times", "?")  # A, B or C


# %% jupyter={"outputs_hidden": true}
seconds(read_all, torch.randn(2800, 64), repeats=1)  # a first run fetches memory, which should not count
matrix, lengths, attention, linear = torch.randn(64, 64), [128, 256, 512, 1024, 2048], [], []
for length in lengths:
    x = torch.randn(length, 64)
    attention.append(seconds(read_all, x, repeats=8))
    linear.append(seconds(lambda x: x @ matrix, x, repeats=8))
    print(f"{length:5} words {1e3 * attention[-1]:8.3f} ms; one matrix a word: {1e3 * linear[-1]:.3f} ms")
print(f"16 times the words: {attention[-1] / attention[0]:.0f} times the time")
learn.answer("sixteen times")

# %%
viewer.cost(lengths, attention, linear=linear)

# %% [markdown]
# Each mark on an axis is twice or ten times the one before, which makes such growth a straight line. Comparing all
# pairs grows as the square of the number of words (dashed); a matrix that treats each word alone (blue; section
# 9 calls it a Linear layer) grows as the number itself. Memory needs no stopwatch: one table of weights, 4 bytes a
# number, soon outgrows a graphics card.

# %%
for length in (1_024, 8_192, 131_072):
    print(f"{length:7,} words: {length**2 * 4 / 1e6:8,.0f} MB")
