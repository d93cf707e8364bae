# %% [markdown]
# ## 6. Attention cannot see order, until positions are added
#
# *x (3, 2) → context (3, 2); x + positions (3, 2) → another context (3, 2)*
#
# *dog bites man* is daily life, *man bites dog* is news. **Does attention notice?** `read_all` is the three
# lines of section 5.

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
print("dog bites man: dog gets", read_all(x_usual)[0])
print("man bites dog: dog gets", read_all(x_news)[2])
order = torch.tensor([3, 0, 4, 2, 1])  # plane[order] has the rows of plane in this order
difference = (read_all(plane[order]) - read_all(plane)[order]).abs().max()
print(f"shuffle then attend, or attend then shuffle: the largest difference is {difference:.0e}")
assert difference < 1e-5
learn.answer("man bites dog")

# %%
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
        print(f"{word:6}", row)
    print()

# %%
viewer.grid(
    strip(x_usual + positions, usual, "dog bites man, with positions"),
    strip(x_news + positions, news, "man bites dog, with positions: other rows"),
    columns=1,
)

# %% [markdown]
# Now *dog* differs. So does *bites*, whose own vector is the same in both (its position adds 0): it sees
# that the others have changed places. Where position vectors come from (learned, waves, rotations) is
# another story; section 14 learns them.
#
# **A real one.** The language models of open_lm turned their position signal along the axis of heads
# (section 13) instead of words, where it says nothing about order. Models had been trained that way before
# someone saw it: https://github.com/mlfoundations/open_lm/issues/4
#
# That ends the first sitting. You have all of attention except what it *learns*: who should ask what.
