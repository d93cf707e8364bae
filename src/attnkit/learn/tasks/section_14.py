"""Section 14: the reader writes the test."""

from collections.abc import Callable

import torch
from torch import Tensor

from attnkit.learn.task import Draws, Sample, Task, Wrong
from attnkit.learn.tasks.panel import PANEL, PanelAnswer
from attnkit.learn.wording import number

# of two lengths: a test that changes words at one place alone misses the hole in one of them
_draw = Draws(141)
_X, _LONGER = _draw(7, 6, spread=1.0), _draw(10, 6, spread=1.0)
_HONEST = torch.tensor([model.honest for model in PANEL])
Attention = Callable[[Tensor], Tensor]


def _changed(x: Tensor, word: int) -> Tensor:
    """`x` with another word in one place."""
    other = x.clone()
    other[word] += 3.0
    return other


def _same(one: Tensor, other: Tensor, tolerance: float = 1e-6) -> bool:
    return torch.allclose(one, other, atol=tolerance)


def _right(attention: Attention, x: Tensor) -> bool:
    return _every_cut(attention, x, 1e-6)


def _every_cut(attention: Attention, x: Tensor, tolerance: float) -> bool:
    before = attention(x)
    return all(
        _same(attention(_changed(x, word))[:word], before[:word], tolerance) for word in range(1, len(x))
    )


def _writes_into_x(attention: Attention, x: Tensor) -> bool:
    other = x
    other[-1] += 3.0
    return _same(attention(other)[:-1], attention(x)[:-1])


def _passed(at: Sample) -> str:
    """How many cheats the test lets pass, as the beginning of a sentence."""
    amount = int(at.got[~_HONEST].sum())
    return f"{amount} of the 8 cheats {'gets' if amount == 1 else 'get'} past your test"


def _accused(at: Sample) -> str:
    """How many honest models the test calls cheats."""
    return f"{int((1 - at.got[_HONEST]).sum())} of the 3 honest models"


def _cheat(at: Sample, name: str | None = None) -> str:
    """A cheat that got past the test, with its leak: the one called `name`, or else the first."""
    index = next(
        i for i, model in enumerate(PANEL) if not model.honest and at.got[i] and name in (None, model.name)
    )
    output, word, size = PANEL[index].leak(at.tensor(1))
    leak = f"its output {output} moves by {number(size)} when word {word} changes"
    return f'"{PANEL[index].name}", although {leak}'


def _no_cheat_passes(at: Sample) -> str | None:
    if not at.got[~_HONEST].any():
        return None
    return f"{_passed(at)}, like {_cheat(at)}."


def _no_honest_one_is_accused(at: Sample) -> str | None:
    accused = (at.got == 0) & _HONEST
    if not accused.any():
        return None
    name = PANEL[int(accused.nonzero()[0, 0])].name
    return (
        f'{_accused(at)} are called cheats by your test, "{name}" among them: its outputs before a changed '
        "word do not move at all (0, or 1e-15 from rounding)."
    )


IS_CAUSAL = Task(
    name="is_causal",
    section=14,
    stars=3,
    core=True,
    signature=(
        "is_causal(attention, x) -> True or False, for an attention that maps words (len, d) to (len, d_out)"
    ),
    statement=(
        "Write the test: True if no output of attention(x) depends on a later word, False if one does. It is "
        "judged on 3 honest models and 8 cheats."
    ),
    cases=((PANEL, _X), (PANEL, _LONGER)),
    right=_right,
    wrongs=(
        Wrong(
            "writes into x",
            _writes_into_x,
            lambda at: (
                f"{_passed(at)}: it writes into x itself, so both of its outputs come from the same words. "
                "Change a copy."
            ),
            match=lambda at: "x" in at.changed and bool(at.got.all()),
        ),
        Wrong(
            "nothing compared",
            lambda attention, x: attention(x).shape[0] == x.shape[0],
            lambda at: (
                f"Every model passes: {_passed(at)}. Shapes, or one output alone, say nothing here: change a "
                "later word, and compare the outputs before it with what they were."
            ),
        ),
        Wrong(
            "answer turned round",
            lambda attention, x: not _right(attention, x),
            lambda at: (
                f"Well looked, and said the wrong way round: {_passed(at)}, and {_accused(at)} do not. True "
                "means that nothing leaks."
            ),
        ),
        Wrong(
            "one place only",
            lambda attention, x: _same(attention(_changed(x, -1))[:-1], attention(x)[:-1]),
            lambda at: (
                f"{_passed(at)}: {_cheat(at, 'a mask with one hole')}. You change words at one place alone; "
                "do it at every place, one after the other."
            ),
        ),
        Wrong(
            "skips the neighbour",
            lambda attention, x: _same(attention(_changed(x, -1))[:-2], attention(x)[:-2]),
            lambda at: (
                f"{_passed(at)}, like {_cheat(at, 'mask off by one')}. You skip the output just before the "
                "changed word. Compare every output before it, for changes at every place."
            ),
        ),
        Wrong(
            "first output only",
            lambda attention, x: _same(attention(_changed(x, 1))[0], attention(x)[0]),
            lambda at: (
                f"{_passed(at)}, like {_cheat(at)}. You look at too few outputs, the first one perhaps: "
                "compare all before the change, at every place."
            ),
        ),
        Wrong(
            "changes the past",
            lambda attention, x: _same(attention(_changed(x, 0))[1:], attention(x)[1:]),
            lambda at: (
                f"Nothing passes, and {_accused(at)} are called cheats. Do you compare outputs that may move, "
                "those of the changed word or of later ones? Only the outputs before the first changed word "
                "must stay, to about 1e-15. (And 0 times nan is nan: change words to numbers.)"
            ),
        ),
        Wrong(
            "compares all",
            lambda attention, x: _same(attention(_changed(x, -1)), attention(x)),
            lambda at: (
                f"{_accused(at)} are called cheats: among the outputs that you compare is that of a changed "
                "word itself, which may move. Leave out the first changed word and what follows it."
            ),
        ),
        Wrong(
            "too lenient",
            lambda attention, x: _every_cut(attention, x, 0.1),
            lambda at: (
                f"{_passed(at)}: {_cheat(at, 'hidden scores set to -10')}, which your tolerance forgives. "
                "Outputs that nothing touched agree to about 1e-15 here (1e-6 in float32)."
            ),
        ),
    ),
    hints=(
        "Run the model on x, and on a copy of x whose words from place t on are others. Which outputs may "
        "differ, and which may not? One t is not enough.",
        "For t = 1, 2, ...: clone x, change what stands at t and after, and compare the outputs [:t] with "
        "torch.allclose and a small atol. One difference anywhere means False.",
    ),
    solution="""\
def is_causal(attention, x):
    before = attention(x)
    for t in range(1, len(x)):
        changed = x.clone()
        changed[t:] += 3.0
        after = attention(changed)
        if not torch.allclose(after[:t], before[:t], atol=1e-6):
            return False
    return True
""",
    answer=PanelAnswer(),
    properties=(_no_cheat_passes, _no_honest_one_is_accused),
)
