from functools import partial

import pytest
import torch
from torch import nn

from attnkit.conformance.suspects import suspect


class WrongAxis(nn.Module):
    """Normalises with softmax(dim=1), says its docstring, which is no code."""

    def forward(self, x):
        # softmax(dim=0) in a comment
        scores = x @ x.mT
        return torch.softmax(scores, dim=1) @ x


class WrongAxisTwice(WrongAxis):
    def again(self, x):
        return x.softmax(dim=0)


class RightAxis(nn.Module):
    def forward(self, x):
        return torch.softmax(x @ x.mT, dim=-1) @ x


def dropping(query, key, value):
    return nn.functional.scaled_dot_product_attention(query, key, value, dropout_p=0.3)


def test_the_one_line_that_can_do_it_is_named_with_its_file_and_number():
    lines = suspect(WrongAxis(), "softmax-wrong-axis")
    file, number, code = lines.split(":", 2)
    assert file == "test_suspects.py"
    assert code.strip() == "return torch.softmax(scores, dim=1) @ x"
    assert int(number) == WrongAxis.forward.__code__.co_firstlineno + 3


def test_two_lines_that_could_do_it_name_none():
    assert suspect(WrongAxisTwice(), "softmax-wrong-axis") == ""


def test_right_code_names_no_line():
    assert suspect(RightAxis(), "softmax-wrong-axis") == ""


def test_a_fault_without_a_shape_names_no_line():
    assert suspect(WrongAxis(), "blind") == ""


def test_a_module_inside_a_module_is_read_too():
    assert "dim=1" in suspect(nn.Sequential(WrongAxis()), "softmax-wrong-axis")


@pytest.mark.parametrize("function", [dropping, partial(dropping, value=None)])
def test_a_function_is_read(function):
    assert "dropout_p=0.3" in suspect(function, "dropout-in-eval")


def test_torchs_own_code_is_not_read():
    assert suspect(nn.MultiheadAttention(8, 2), "future-leak") == ""


@pytest.mark.parametrize(
    ("fault", "wrong", "right"),
    [
        (
            "scale-by-width",
            "scores = scores * self.d_model ** -0.5",
            "scores = scores * self.head_dim ** -0.5",
        ),
        ("scale-by-width", "scores / math.sqrt(d_model)", "scores / math.sqrt(head_dim)"),
        (
            "scale-after-softmax",
            "w = scores.softmax(-1) / key.shape[-1] ** 0.5",
            "w = (scores / 2).softmax(-1)",
        ),
        ("mask-after-softmax", "w = scores.softmax(-1) * mask", "w = self.drop(scores.softmax(-1))"),
        ("mask-added-as-number", "scores = scores + mask.float()", "scores = scores + bias"),
        ("mask-fill-too-weak", "s = s.masked_fill(~keep, -1e4)", "s = s.masked_fill(~keep, -torch.inf)"),
        (
            "heads-split-wrong",
            "q = q.view(b, num_heads, n, d)",
            "q = q.view(b, n, num_heads, d).transpose(1, 2)",
        ),
        (
            "heads-merged-wrong",
            "out = context.reshape(b, n, d)",
            "out = context.transpose(1, 2).reshape(b, n, d)",
        ),
        ("grouped-heads-tiled", "k = k.repeat(1, groups, 1, 1)", "k = k.repeat_interleave(groups, 1)"),
        ("dropout-in-eval", "w = F.dropout(w, self.p)", "w = F.dropout(w, self.p, training=self.training)"),
        ("value-from-key", "value = self.key(x)", "value = self.value(x)"),
        ("query-key-swapped", "scores = key @ query.mT", "scores = query @ key.mT"),
        ("window-off-by-one", "keep = distance <= self.window", "keep = kept & causal"),
    ],
)
def test_a_shape_matches_the_wrong_line_and_not_the_right_one(tmp_path, monkeypatch, fault, wrong, right):
    body = "def {}(b, n, d):\n    {}\n"
    (tmp_path / f"written_{abs(hash(wrong))}.py").write_text(
        body.format("wrong", wrong) + body.format("right", right)
    )
    monkeypatch.syspath_prepend(tmp_path)
    written = __import__(f"written_{abs(hash(wrong))}")
    assert suspect(written.wrong, fault).endswith(wrong)
    assert suspect(written.right, fault) == ""
