# %% [markdown]
# # Attention, from two vectors to a real sentence
#
# Three sittings: **with bare hands**, **attention that learns**, **can you trust it?** Each ends with
# something that works.
#
# - Read from the top and run each cell with Shift-Enter. Cells share their names, so run them in order; after a
#   `NameError`, choose *Run All Above Selected Cell* in the menu *Run*.
# - Where you are asked, **guess first**: put A, B or C in place of the question mark. The answer below is
#   folded, and running its cell unfolds it. A wrong guess teaches more than a right one.
# - Exercises (★ easy, ★★★ hard) are optional; *core* ones carry the story. No later cell needs them. Stuck?
#   `learn.hint("scores")` gives a first step, `learn.solution("scores")` the code, and so for each by its name.
# - Change numbers and words, and run again. A line that begins with `assert` checks a number that the text
#   tells: when you change what it checks, it stops its cell with `AssertionError`. Put a # before it and go on.
# - You need Python and the matrix product. The rest is explained where it first appears.
#
# A block of numbers is called a *tensor* in PyTorch, the library that we use (`torch`). Its *shape* says how many
# numbers lie along each *axis*: (4) is a list of 4 numbers, (6, 4) a table of 6 rows with 4 numbers each. Under
# each title a line tells which shapes the section turns into which.
#
# The attention classes that you build here are the very code of the package `attnkit`.

# %%
import math
import time

import torch
from torch import nn

from attnkit import learn, viewer  # learn asks and checks, viewer draws

# %% [markdown]
# # I. With bare hands

# %% [markdown]
# ## 1. One word, two meanings
#
# *table (6, 4) → five words (5, 4) → one average (4)*
#
# A computer reads numbers, so a text is cut into pieces, **tokens** (here: words), and a table gives each
# token a list of numbers, its **vector**. But *bank* is a place for money, or the side of a river. **Can a
# table tell which?**

# %%
money = ["the", "bank", "raised", "the", "rates"]
river = ["the", "bank", "met", "the", "water"]

torch.manual_seed(0)  # the same random numbers at every run
vocabulary = sorted(set(money + river))
# randn: random numbers, most of them between -2 and 2; a real table is learned
table = {word: torch.randn(4) for word in vocabulary}
print(f"{len(table)} words, 4 numbers each; bank is", table["bank"])

# %% [markdown]
# **Guess.** Take the vector of *bank* from each of the two sentences. How far apart are they?
#
# - **A** 0
# - **B** a little: the neighbours leave a trace
# - **C** far: the meanings differ

# %%
learn.guess("same bank", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
distance = (table[money[1]] - table[river[1]]).norm()  # norm: the length of a vector
print(f"distance between the two banks: {distance:.4f}")
learn.answer("same bank")

# %% [markdown]
# So a word must look at the others. The plainest way: give each word the average of its whole sentence.
#
# **Guess.** Which words of one sentence then get the same vector?
#
# - **A** none, each keeps its own
# - **B** only the two *the*
# - **C** all of them

# %%
learn.guess("plain average", "?")  # A, B or C

# %% jupyter={"outputs_hidden": true}
for sentence in (money, river):
    # stack: the vectors one below the other, a row for each word, (5, 4)
    vectors = torch.stack([table[word] for word in sentence])
    for word in sentence:
        average = vectors.mean(dim=0)  # dim=0: the first axis, the words, is averaged away
        print(f"{word:8}", average)
    print()
assert distance == 0  # the two banks from above
learn.answer("plain average")

# %% [markdown]
# The table says too little: one *bank* for all sentences. The average says too much: one vector for all
# words. Each word needs an average *of its own*, which leans towards the words that matter to it. That is
# **attention**. Below is what a trained model makes of *bank* in twelve sentences; in section 15 you run it
# with the functions that this notebook builds.

# %%
learn.fan_of_bank()

# %% [markdown]
# At the left stands the table: one vector, whatever the sentence. Then come six rounds of attention, the
# *layers*. Each moves *bank*: up in sentences about money (blue), down in those about rivers (orange). Height
# is the one direction in which the eight coloured ones differ most. The dashed lines are sentences that could go either
# way. Which of them ends on the wrong side?
