"""From a target to a subject: a copy of it, how it is called, and how wide its tokens are."""

import copy
from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from attnkit.conformance.adapters.functions import HEAD_DIM, AroundFunction
from attnkit.conformance.adapters.knowledge import Known
from attnkit.conformance.adapters.libraries import known
from attnkit.conformance.adapters.signatures import Signature
from attnkit.conformance.adapters.trying import tries_cache, tries_keep
from attnkit.conformance.declared import Declared
from attnkit.conformance.subject import Subject, TargetError, in_precision

NAMES = {
    "query": ("query", "W_query", "q_proj", "W_q", "wq", "to_q", "q", "q_lin", "linear_q"),
    "key": ("key", "W_key", "k_proj", "W_k", "wk", "to_k", "k", "k_lin", "linear_k"),
    "value": ("value", "W_value", "v_proj", "W_v", "wv", "to_v", "v", "v_lin", "linear_v"),
    "output": (
        "output",
        "out_proj",
        "o_proj",
        "W_o",
        "wo",
        "to_out",
        "proj",
        "out",
        "out_lin",
        "c_proj",
        "dense",
    ),
}


def told_of(target: object, declared: Declared) -> Declared:
    """What is said of a target, and what its type says of it by itself where nothing else was said."""
    target = as_written(target)
    facts = known(target, declared) if isinstance(target, nn.Module) and declared.call is None else None
    if facts is None:
        return declared
    usual = {field.name: field.default for field in fields(Declared)}
    said = {name: value for name, value in facts.said.items() if getattr(declared, name) == usual[name]}
    if declared.cross:
        said.pop("causal", None)
    return replace(declared, **said)


def as_written(target: object) -> object:
    """What was compiled, before it was: a compiled copy would be compiled anew for every size."""
    return getattr(target, "_orig_mod", None) or getattr(target, "_torchdynamo_orig_callable", None) or target


def subject_of(target: object, declared: Declared) -> Subject:
    """What the checks call.

    Raises:
        TargetError: it is neither a module nor a function, cannot be copied, or nothing says how it is called.
    """
    written = as_written(target)
    if isinstance(written, type):
        raise TargetError(
            where="check",
            what=f"{written.__name__} is a class",
            fix=f"make one first: check({written.__name__}(...))",
        )
    if isinstance(written, nn.Module) and not _on_heads(written, declared):
        subject = _of_module(written, declared)
    elif callable(written):
        subject = _of_function(written, declared)
    else:
        raise TargetError(
            where="check",
            what=f"a target is a module or a function of query, key and value; got a {type(target).__name__}",
            fix="check(my_layer, d_in=24)",
        )
    return (
        subject if written is target else replace(subject, name=f"{subject.name}, as it was before compiling")
    )


def _on_heads(module: nn.Module, declared: Declared) -> bool:
    """Whether a module takes query, key and value that are projected already: it has no matrix of its own."""
    if declared.call is not None or declared.d_in or known(module, declared) is not None:
        return False
    matrices = any(parameter.ndim > 1 for parameter in module.parameters() if not is_lazy(parameter))
    return not matrices and not any(map(is_lazy, module.parameters())) and Signature.of(module).three


def _of_function(function: Callable[..., Any], declared: Declared) -> Subject:
    num_heads = declared.num_heads or 3
    if isinstance(function, nn.Module):
        function = _copied(function)
    module = AroundFunction(
        function,
        num_heads=num_heads,
        num_kv_heads=declared.num_kv_heads or num_heads,
        d_in=declared.d_in or num_heads * HEAD_DIM,
        memory_dim=declared.memory_dim or declared.d_in or num_heads * HEAD_DIM,
        seed=declared.seed,
    )
    signature, names = Signature.of(module), {name: name for name in NAMES}
    d_in, memory_dim = module.query.in_features, module.key.in_features
    name = getattr(function, "__name__", type(function).__name__)
    module = in_precision(module, torch.float64).eval()
    return Subject(module, signature, d_in, memory_dim, True, False, False, names, name)


def _of_module(module: nn.Module, declared: Declared) -> Subject:
    facts = known(module, declared) if declared.call is None else None
    if facts is None:
        facts = _by_signature(module, declared)
    copied = in_precision(_copied(module), torch.float64).eval()
    names = facts.projections | dict(declared.projections or {})
    _check_names(module, names)
    d_in = declared.d_in or facts.d_in
    memory_dim = declared.memory_dim or facts.memory_dim or d_in
    call, takes_keep = facts.call, facts.takes_keep
    if isinstance(call, Signature):
        call = call.fitted(copy.deepcopy(copied), d_in, memory_dim)
    subject = Subject(
        copied,
        call,
        d_in,
        memory_dim,
        facts.takes_memory,
        takes_keep if declared.mask is None else declared.mask and takes_keep,
        facts.takes_cache if declared.cache is None else declared.cache and facts.takes_cache,
        names,
        type(module).__name__,
    )
    return _tried(subject, declared) if declared.call is not None else subject


def _tried(subject: Subject, declared: Declared) -> Subject:
    """With a call of the user's own: what it passes on is found out, where nothing was said."""
    takes_keep = tries_keep(subject, declared) if declared.mask is None else declared.mask
    takes_cache = tries_cache(subject, declared) if declared.cache is None else declared.cache
    return replace(subject, takes_keep=takes_keep, takes_cache=takes_cache)


def _copied(module: nn.Module) -> nn.Module:
    """A copy on the CPU.

    Raises:
        TargetError: it cannot be copied, holds no numbers, or has sizes that its first call sets.
    """
    name, held = type(module).__name__, (*module.parameters(), *module.buffers())
    if any(map(is_lazy, held)):
        raise TargetError(
            where="check",
            what=f"{name} has sizes that its first call sets",
            fix="call it once, module(x), then check(module)",
        )
    if any(tensor.is_meta for tensor in held):
        raise TargetError(
            where="check",
            what=f"{name} is on the meta device, which holds sizes and no numbers",
            fix='module.to_empty(device="cpu"), and set its parameters; then check(module)',
        )
    try:
        return copy.deepcopy(module).to(device="cpu")
    except Exception as trouble:  # whatever a module's own copying raises
        raise TargetError(
            where="check",
            what=f"{name} cannot be copied: {trouble}",
            fix="check a module that copy.deepcopy copies, so that the one given stays as it is",
        ) from trouble


def _by_signature(module: nn.Module, declared: Declared) -> Known:
    names = found_projections(module)
    query, key = (dict(module.named_modules()).get(names.get(name, "")) for name in ("query", "key"))
    d_in = declared.d_in or getattr(query, "in_features", 0)
    memory_dim = declared.memory_dim or getattr(key, "in_features", 0) or d_in
    if not d_in:
        raise TargetError(
            where="check",
            what=f"nothing tells how many numbers a token of {type(module).__name__} has",
            fix="check(module, d_in=24)",
        )
    if declared.call is not None:
        return Known(declared.call, d_in, memory_dim, declared.cross, True, True, names)
    signature = Signature.of(module)
    takes_keep = bool(signature.keep or signature.ignore)
    return Known(
        signature, d_in, memory_dim, signature.three or bool(signature.memory), takes_keep, False, names
    )


def found_projections(module: nn.Module) -> dict[str, str]:
    """The submodules of query, key, value and output, by usual names, as far as they are there."""
    own = {name: part for name, part in module.named_modules() if name}
    found: dict[str, str] = {}
    for role, usual in NAMES.items():
        matches = [name for wanted in usual for name in own if name.split(".")[-1] == wanted]
        if matches:
            found[role] = matches[0]
    return found


def _check_names(module: nn.Module, names: Mapping[str, str]) -> None:
    own = dict(module.named_modules())
    for role, name in names.items():
        if name not in own:
            raise TargetError(
                where="check",
                what=f"{type(module).__name__} has no submodule {name!r}, which was said to be its {role}",
                fix=f"projections={{{role!r}: one of {', '.join(sorted(n for n in own if n)) or 'none'}}}",
            )
