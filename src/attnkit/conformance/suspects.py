"""The line of a target's source that most likely does what was found; silent where more than one line could.

Each fault has the shapes in which people write it. A line is named only where exactly one line of the code matches.
"""

import ast
import functools
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import nn

_WIDTH = r"(?:d_model|d_in|d_out|embed_dim|embed_size|hidden_size|hidden_dim|n_embd|model_dim|emb_size)"
_MASK = r"\w*(?:mask|keep|allowed|tril)\w*(?:\[[^\]]*\])?"
_HEADS = r"(?:self\.)?(?:num_heads|n_heads?|heads|nhead|h)"
_SOFTMAX = r"softmax\([^()]*(?:\([^()]*\)[^()]*)*\)"
_WEIGHTS = r"(?:weights|attn|probs)\w*"
_HALF = r"\.half\(\)|\.bfloat16\(\)|float16"
_SHAPES: dict[str, tuple[str, ...]] = {
    "softmax-wrong-axis": (r"softmax\((?:.*\b(?:dim|axis)\s*=\s*|.*,\s*)?(?:-[234]|[012])\s*\)",),
    "scale-by-width": (
        rf"{_WIDTH}\)?\s*\*\*\s*\(?-?\s*(?:0?\.5|1\s*/\s*2)",
        rf"sqrt\(\s*(?:self\.)?{_WIDTH}\s*\)",
    ),
    "scale-after-softmax": (rf"{_SOFTMAX}\s*[*/]", rf"{_WEIGHTS}\s*[*/]=?\s*.*scale"),
    "mask-after-softmax": (rf"{_SOFTMAX}\s*\*\s*{_MASK}", rf"{_WEIGHTS}\s*\*=?\s*{_MASK}"),
    "mask-added-as-number": (rf"\+=?\s*{_MASK}(?:\.(?:float|double|to|type_as|int)\(.*)?$",),
    "mask-fill-too-weak": (
        r"masked_fill_?\(.*,\s*(?:value\s*=\s*)?(?:-\d[\d._]*(?:e[+-]?\d+)?|1e-\d+)\s*\)",
        r"scores\.masked_fill_?\([^()]*,\s*0(?:\.0)?\s*\)",
    ),
    "dead-row-nan": (r"masked_fill_?\(.*(?:-\s*(?:math|torch|np|numpy)\.inf|float\(['\"]-inf)",),
    "dead-row-junk": (r"masked_fill_?\(.*(?:-\s*1e\d+|finfo\()",),
    "window-off-by-one": (
        r"(?:<=|<|>=|>|\+|-)\s*(?:self\.)?window|window\w*\s*(?:<|>|\+|-)",
        r"diagonal\s*=.*window",
    ),
    "heads-split-wrong": (
        rf"\.(?:view|reshape)\(\s*[^,()]+(?:\([^()]*\)|\[\d\])?,\s*{_HEADS}\s*,(?!.*transpose)",
    ),
    "heads-merged-wrong": (
        r"(?:context|out|output|y|x|attn\w*|values?)\.(?:contiguous\(\)\.)?(?:view|reshape)\("
        r"(?!.*(?:transpose|permute|heads))",
    ),
    "grouped-heads-tiled": (r"\.(?:repeat|tile)\(", r"%\s*(?:self\.)?(?:num_|n_)?kv_heads"),
    "dropout-in-eval": (
        r"dropout_p\s*=\s*(?:self\.\w+|0?\.\d+)\s*[,)]",
        r"\.dropout\((?!.*training)[^()]*,[^()]*\)",
        r"training\s*=\s*True",
    ),
    "dropout-not-rescaled": (r"rand(?:_like)?\(|bernoulli",),
    "dropout-before-softmax": (r"softmax\(.*drop", r"scores\s*=.*drop"),
    "dropout-shared": (r"manual_seed\(", r"dropout\(torch\.ones"),
    "dropout-sticky": (r"self\.\w*(?:drop|p)\w*\s*=\s*(?:0\b|0\.0|.*\bif\b.*training)",),
    "gradient-blocked": (r"\.detach\(\)|no_grad\(|\.data\b|\.item\(\)|\.tolist\(|\.numpy\(\)",),
    "gradient-wrong": (r"\.detach\(\)", r"def backward\("),
    "nondeterministic": (r"\brand(?:n|om|int|perm)?(?:_like)?\(",),
    "state-changed": (r"\.\w+[a-z]_\(|manual_seed\(", r"^\s*(?:self\.\w+|x|keep|mask)\s*[-+*/]="),
    "low-precision": (_HALF,),
    "position-precision": (_HALF, r"clamp\("),
    "alibi-sign": (r"\+\s*(?:self\.)?slopes?",),
    "value-from-key": (
        r"\bvalues?\s*=\s*(?:self\.)?(?:\w*_)?keys?\b",
        r"\bv\s*=\s*(?:self\.)?k\b|\bv\s*=\s*\w*\.?(?:k_proj|W_k|wk|to_k)",
    ),
    "query-key-swapped": (r"\bkeys?\s*@\s*quer(?:y|ies)|\bk\s*@\s*q\b", r"matmul\(\s*k(?:ey)?s?\s*,\s*q"),
    "layout": (r"as_strided\(",),
    "mask-inverted": (
        rf"masked_fill_?\(\s*{_MASK}\s*(?:==\s*1)?,",
        r"(?:attn_mask|mask)\s*=\s*(?:~|.*triu\()",
    ),
    "mask-skipped": (
        r"\bif\b.*(?:training|grad_enabled|shape\[|size\(|need_weights|dropout)",
        r"\|\s*self\.training",
    ),
    "future-leak": (r"triu\(|tril\(", r"is_causal\s*=\s*False"),
}


def suspect(target: Any, fault: str) -> str:
    """`file:line: code` of the one line that most likely does it; "" where none or more than one could."""
    shapes = _SHAPES.get(fault, ())
    matches = [(where, code) for where, code in _code(target) if any(re.search(one, code) for one in shapes)]
    if len(matches) != 1:
        return ""
    ((where, code),) = matches
    return f"{where}: {code.strip()}"


def _code(target: Any) -> Iterator[tuple[str, str]]:
    """Each line of code of a target, without comments and docstrings, with the file and the number of the line."""
    for written in _written(target):
        try:
            lines, first = inspect.getsourcelines(written)
            tree = ast.parse(textwrap.dedent("".join(lines)))
            file = Path(inspect.getsourcefile(written) or "").name
        except (OSError, TypeError, SyntaxError):  # made in a shell, or by type()
            continue
        told = _documented(tree)
        for number, line in enumerate(lines):
            code = line.split("#")[0].rstrip()
            if code and number + 1 not in told:
                yield f"{file}:{(first or 1) + number}", code


def _written(target: Any) -> Iterator[Any]:
    """The classes and functions that somebody wrote to make a target: none of torch's own."""
    if not isinstance(target, nn.Module):
        while isinstance(target, functools.partial):
            target = target.func
        yield target
        return
    function = getattr(target, "function", None)
    if function is not None and type(target).__module__.startswith("attnkit."):
        yield from _written(function)
        return
    seen: dict[type, None] = {}
    for part in target.modules():
        seen |= dict.fromkeys(type(part).__mro__)
    for kind in seen:
        if kind is not object and kind.__module__.split(".")[0] not in ("torch", "attnkit", "builtins"):
            yield kind


def _documented(tree: ast.AST) -> set[int]:
    """The numbers of the lines that are docstrings."""
    found: set[int] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Expr)
            and isinstance(node.value, ast.Constant)
            and isinstance(node.value.value, str)
        ):
            found |= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return found
