"""What holds in plain evaluation holds on every path: in training, at a batch of one, where weights are asked for.

Each path is called with other tokens where none may be read. A fault on some paths alone is a mask that is skipped.
"""

from collections.abc import Iterator

from attnkit.conformance.case import ROUNDING, Case, Check
from attnkit.conformance.declared import LEVELS
from attnkit.conformance.findings import Finding
from attnkit.conformance.lessons import FUTURE
from attnkit.conformance.relations.reads import Source
from attnkit.conformance.relations.walking import BASE, PATHS, Path, allowed, wrong

_CLAIMS = {
    "future": "outputs move by {far:.2g} of their size with later tokens",
    "window": "outputs move by {far:.2g} of their size with tokens before their window",
    "padding": "outputs move by {far:.2g} of their size with tokens that a mask hides",
}


def run_paths(case: Case) -> Iterator[Finding]:
    """Each claim on each path, where it holds in plain evaluation."""
    claims = _claims(case)
    case.need(claims, "it is not causal by what was declared, and takes no mask")
    source = Source(case, case.declared.cross)
    for claim in claims:
        base = wrong(source, BASE, claim)
        if base is None or base > ROUNDING:
            continue  # wrong everywhere, or not to be told: another check says so
        failed = {
            path: far for path in _paths(case) if (far := wrong(source, path, claim) or 0.0) > allowed(path)
        }
        if failed:
            yield _finding(claim, failed)


def _claims(case: Case) -> list[str]:
    own = not case.declared.cross
    return [
        claim
        for claim, made in (
            ("future", case.declared.causal and own),
            ("window", case.declared.window is not None and own and case.declared.causal),
            ("padding", case.subject.takes_keep),
        )
        if made
    ]


def _paths(case: Case) -> list[Path]:
    return [path for path in PATHS if LEVELS.index(path.level) <= LEVELS.index(case.declared.level)]


def _finding(claim: str, failed: dict[Path, float]) -> Finding:
    path = next(iter(failed))
    others = [other.name for other in failed if other is not path]
    more = f" (also: {', '.join(others)})" if others else ""
    return Finding(
        "paths",
        "mask-skipped",
        f"with {path.name}, {_CLAIMS[claim].format(far=failed[path])}; in plain evaluation they do not{more}",
        failed[path],
        allowed(path),
        path=path.name,
        data={"claim": claim, "paths": {path.name: far for path, far in failed.items()}},
    )


CHECKS = (
    Check(
        "paths",
        "basic",
        run_paths,
        "masks act in training as in evaluation, at any batch and length, with and without weights asked for",
        FUTURE,
    ),
)
