"""`attnkit check TARGET`: silent faults in somebody's attention, named in a sentence."""

from typing import Any

import click

from attnkit.cli.targets import arguments_of, object_of, target_of
from attnkit.cli.words import paragraphs, table, width, wrong_usage
from attnkit.errors import OptionError

_LEVELS = ("basic", "full", "strict")
_POSITIONS = ("rotary", "alibi", "relative", "absolute")


def _declaring(command: Any) -> Any:
    """The options that say what a target is."""
    whole = click.IntRange(1)
    options = (
        click.option("--d-in", type=whole, help="Numbers of a token; found by the projections otherwise."),
        click.option("--memory-dim", type=whole, help="Numbers of a token of the memory."),
        click.option("--causal", is_flag=True, help="A token may not read later ones."),
        click.option("--window", type=whole, help="How many tokens each reads, its own included."),
        click.option("--num-heads", type=whole, help="Heads of the query."),
        click.option("--num-kv-heads", type=whole, help="Heads of key and value."),
        click.option("--dropout", type=float, help="The probability that it was built with."),
        click.option("--positions", type=click.Choice(_POSITIONS), help="How it tells places apart."),
        click.option(
            "--scale", type=float, help="What scores are multiplied by; 1/sqrt(head_dim) otherwise."
        ),
        click.option("--softcap", type=float, help="What scores are capped at."),
        click.option("--normalised/--not-normalised", default=None, help="Whether weights sum to one."),
        click.option("--cross", is_flag=True, help="It reads a memory."),
        click.option("--mask/--no-mask", default=None, help="Whether it takes a mask of keys."),
        click.option("--cache/--no-cache", default=None, help="Whether it goes on from a cache."),
        click.option("--limit-seconds", type=float, help="When the checks that are left are skipped."),
        click.option("--seed", type=int, default=0, help="Of parameters and inputs."),
        click.option(
            "--level",
            type=click.Choice(_LEVELS),
            default="basic",
            show_default=True,
            help="How much is tried.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def _comparing(command: Any) -> Any:
    """The options that say what a target should be equal to."""
    again = "An option of the reference, such as window=4; again for more."
    option = click.option("--reference-option", "options", multiple=True, metavar="NAME=VALUE", help=again)
    return click.option("--reference", metavar="NAME", help="A mechanism that it should be equal to.")(
        option(command)
    )


@click.command(
    "check", epilog="Example: attnkit check my_model.py:Attention --arg d_in=24 --arg num_heads=4 --causal"
)
@click.argument("target")
@click.option(
    "--arg", "arguments", multiple=True, metavar="NAME=VALUE", help="What makes the target; again for more."
)
@_declaring
@_comparing
@click.option(
    "--projection",
    "projections",
    multiple=True,
    metavar="ROLE=NAME",
    help="Where query, key, value or output is.",
)
@click.option(
    "--call", metavar="FILE.py:NAME", help="A function (module, x, memory, keep, cache) that calls it."
)
@click.option(
    "--expect",
    "expected",
    multiple=True,
    metavar="CHECK=REASON",
    help="A check that is known to fail, and why.",
)
@click.option("--json", "in_json", is_flag=True, help="Print JSON.")
def check_target(
    target: str,
    arguments: tuple[str, ...],
    projections: tuple[str, ...],
    call: str | None,
    expected: tuple[str, ...],
    in_json: bool,
    **said: Any,
) -> None:
    """Look for silent faults in an attention module.

    TARGET is package.module:NAME or file.py:NAME: a class or a function that makes a module with --arg, a module, or a
    function of query, key and value. Its code is imported and run.

    Exit status: 0 when nothing was found, 1 when a fault was, 2 when it cannot be checked.
    """
    from attnkit.conformance import check

    with wrong_usage():
        said["projections"] = arguments_of("--projection", projections, as_text=True) or None
        said["expected"] = arguments_of("--expect", expected, as_text=True)
        said["reference"] = _reference(said["reference"], said.pop("options"))
        said["call"] = None if call is None else object_of(call)
        made = target_of(object_of(target), arguments_of("--arg", arguments), seed=said["seed"])
        report = check(made, **said)
    click.echo(report.to_json() if in_json else _told(report))
    if not report.ok:
        raise SystemExit(1)


def _reference(name: str | None, settings: tuple[str, ...]) -> Any:
    """What the target is compared with; None for nothing."""
    from attnkit.conformance import Reference

    options = arguments_of("--reference-option", settings)
    if name is not None:
        return Reference(name, options=options)
    if options:
        raise OptionError(
            where="--reference-option",
            what=f"there is no reference that {settings[0]} could be an option of",
            fix=f"--reference sliding_window --reference-option {settings[0]}",
        )
    return None


def _told(report: Any) -> str:
    blocks = [paragraphs(f"{report.target}: {report.described}")]
    if report.fault:
        blocks.append(paragraphs(f"{report.fault}: {report.diagnosis}") + _lesson(report))
    blocks.append(_section("found by", _findings(report.findings)))
    blocks.append(_section("failed as was said", _findings(report.expected)))
    blocks.append(_section("not tried", _reasons(report.skipped)))
    blocks.append(_counted(report))
    return "\n\n".join(block for block in blocks if block)


def _lesson(report: Any) -> str:
    """Where the tutorial teaches what went wrong; "" where it does not."""
    from attnkit.conformance import CHECKS

    found = next((one.check for one in report.findings if one.fault == report.fault), "")
    lesson = next((one.lesson for one in CHECKS if one.name == found), "")
    return f"\n  lesson: {lesson}" if lesson else ""


def _findings(findings: Any) -> list[tuple[str, str]]:
    return [(one.check + (f" ({one.path})" if one.path else ""), one.sentence) for one in findings]


def _reasons(skipped: Any) -> list[tuple[str, str]]:
    """The checks by reason, and the reasons once each."""
    by_reason: dict[str, list[str]] = {}
    for check, reason in skipped.items():
        by_reason.setdefault(" ".join(reason.split()), []).append(check)
    return [(", ".join(checks), reason) for reason, checks in by_reason.items()]


def _section(title: str, rows: list[tuple[str, str]]) -> str:
    if not rows:
        return ""
    widest = max(len(name) for name, _ in rows)
    if widest <= width() // 3:
        return f"{title}\n{table(rows)}"
    return title + "".join(f"\n  {name}\n{table([('', said)], indent=2)}" for name, said in rows)


def _counted(report: Any) -> str:
    failed = len({one.check for one in report.findings})
    passed, tried = len(report.passed), failed + len(report.passed)
    said = f"{failed} of {tried} checks failed" if failed else f"{passed} checks passed, nothing was found"
    return f"{said}; {len(report.skipped)} were not tried; {report.seconds:.1f} s"
