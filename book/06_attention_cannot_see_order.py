# %% [markdown]
# ## 6. Dog bites man, man bites dog: who is where?
#
# *x (3, 2) → context (3, 2); x + positions (3, 2) → another context (3, 2)*
#
# *dog bites man* is daily life, *man bites dog* is news. **Does attention notice?** We give three words two
# numbers each and let all read all with `read_all`, the three lines of section 5.

# %%
story = {"dog": [1.0, 1.2], "bites": [-1.0, 0.8], "man": [1.2, 0.1]}
usual, news = ["dog", "bites", "man"], ["man", "bites", "dog"]
x_usual = torch.tensor([story[word] for word in usual])
x_news = torch.tensor([story[word] for word in news])

# %% [markdown]
# **Guess.** From one sentence to the other, the context of *dog* becomes
#
# - **A** quite another
# - **B** slightly another
# - **C** the same

# %%
learn.guess("man bites dog", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
show("dog bites man: dog gets", read_all(x_usual)[0])
show("man bites dog: dog gets", read_all(x_news)[2])
order = torch.tensor([3, 0, 4, 2, 1])  # plane[order] has the rows of plane in this order
difference = (read_all(plane[order]) - read_all(plane)[order]).abs().max()
print(f"five words, first shuffled or afterwards: contexts differ by {difference:.0e} at most (rounding)")
learn.answer("man bites dog")

# %%
assert difference < 1e-5
viewer.grid(
    strip(x_usual, usual, "dog bites man"),
    strip(x_news, news, "man bites dog: the same rows, in another order"),
    columns=1,
)

# %% [markdown]
# The lower strip holds the rows of the upper one, in another order. A score asks *who*, never *where*, and
# a sum does not care what comes first. To attention a sentence is a bag of words.
#
# The mend: give every **position** a vector of its own, and add it to the word that stands there.

# %%
positions = torch.tensor([[0.5, 0.0], [0.0, 0.0], [-0.5, 0.0]])  # first, second, third place
for sentence, x in ((usual, x_usual), (news, x_news)):
    for word, row in zip(sentence, read_all(x + positions), strict=True):
        show(f"{' '.join(sentence)}: {word}", row)
    print()

# %%
viewer.grid(
    strip(x_usual + positions, usual, "dog bites man, with positions"),
    strip(x_news + positions, news, "man bites dog, with positions: other rows"),
    columns=1,
)

# %% [markdown]
# Now *dog* differs. So does *bites*, whose own vector is the same in both (its position adds 0): it sees
# that the others have changed places. We chose these position vectors by hand; in section 14 a model learns its own.
#
# **A real one.** The language models of open_lm applied their position signal along the axis of heads
# (section 13) instead of words, where it says nothing about order. Models had been trained that way before
# someone saw it: https://github.com/mlfoundations/open_lm/issues/4
#
# That ends the first sitting. Attention works in your hands: put other words and numbers into `story` and run this
# section again. What is missing is what it *learns*: who should ask what.
