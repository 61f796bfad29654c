"""What mvit-export and mvit-verify print of their reports: the table of files, and remarks on each."""

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mvit_deploy import report
from mvit_deploy.cli.console import Steps
from mvit_deploy.parity import MATCH, NOT_RUN
from mvit_deploy.report import Report

_STYLES = {MATCH: "green", NOT_RUN: "yellow"}


def show(reports: list[Report], console: Console, *, as_json: bool) -> None:
    if as_json:
        click.echo(report.dump([result.to_json() for result in reports]), nl=False)
    console.print(_table(reports))
    for result in reports:
        for line in _remarks(result):
            console.print(f"{result.path.name}: {line}", soft_wrap=True, markup=False)


def told(result: Report, steps: Steps) -> Report:
    steps(f"{result.path.name}: {result.verdict.replace('_', ' ')}")
    return result


def _table(reports: list[Report]) -> Table:
    table = Table(title="Each file against PyTorch (eager, fp32)", title_justify="left", box=SIMPLE_HEAD)
    table.add_column("file", no_wrap=True)
    table.add_column("verdict", no_wrap=True)
    for name in ("MB", "rel_max", "SQNR dB", "photos dB", "top-1 same"):
        table.add_column(name, justify="right")
    table.add_column("judged by", overflow="fold")
    for result in reports:
        table.add_row(*_row(result))
    return table


def _row(result: Report) -> tuple[str, ...]:
    artifact, verification = result.content["artifact"], result.content["verification"]
    errors = _worst(verification["outputs"])
    size, runtime = artifact["size_bytes"], verification["runtime"]
    style = _STYLES.get(result.verdict, "red")
    verdict = "failed" if result.exit_code == 6 else result.verdict.replace("_", " ")
    judged = verification["outputs"] and runtime
    return (
        result.path.name,
        f"[{'red' if result.exit_code == 6 else style}]{verdict}[/]",
        "" if size is None else f"{size / 1e6:.2f}",
        _number(errors.get("rel_max"), ".1e"),
        _number(errors.get("sqnr_db"), ".1f"),
        _number(errors.get("photos_db"), ".1f"),
        _number(errors.get("top1_agreement"), ".1%"),
        _judge(runtime) if judged else "nobody here",
    )


def _worst(outputs: list[dict[str, object]]) -> dict[str, float | None]:
    """Of several outputs the largest error and the least of what is better when large; None where no output has it."""
    photos = [output["photos"] or {} for output in outputs]
    columns = {
        "rel_max": (max, [output["rel_max"] for output in outputs]),
        "sqnr_db": (min, [output["sqnr_db"] for output in outputs]),
        "photos_db": (min, [each.get("sqnr_db") for each in photos]),
        "top1_agreement": (min, [output["top1_agreement"] for output in outputs]),
    }
    known = {name: (worst, [v for v in values if v is not None]) for name, (worst, values) in columns.items()}
    return {name: worst(values) if values else None for name, (worst, values) in known.items()}


def _judge(runtime: dict[str, str]) -> str:
    """The evaluator has this tool's own version, which says nothing here."""
    return runtime["name"] if runtime["kind"] == "evaluator" else f"{runtime['name']} {runtime['version']}"


def _number(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _remarks(result: Report) -> list[str]:
    """Why a file is not there or not proven, where it leaves PyTorch, and what half precision does to it."""
    found = result.content["verification"]
    broken = [claim for claim in found.get("claims", []) if claim["holds"] is False]
    lines = [f"no longer holds: {claim['claim']}: {claim['detail']}" for claim in broken]
    if result.reason and not broken:
        lines.append(result.reason)
    if len(found.get("claims", [])) > 1:  # one alone is the verdict: there was no report
        lines.append(_counted(found["claims"]))
    if (result.content["artifact"].get("lint") or {}).get("summary"):
        lines.append(f"lint: {result.content['artifact']['lint']['summary']}; the full list is in the report")
    if "quantization" in result.content:
        lines += _integers(result.content["artifact"]["int8"], result.content["quantization"])
    if "suppression" in found and not found["suppression"]["faults"]:
        count = found["suppression"]["detections"]
        lines.append(f"{count} detections on {found['inputs']['count']} images, as the rule of suppression has them")
    if "location" in found:
        lines.append(_place(found["location"]))
    audit = (found.get("fp16_audit") or {}).get("findings", [])
    lines += [
        f"fp16 {f['severity']}: line {f['line']}, {f['operation']} {f['value']}: {f['detail']}" for f in audit[:5]
    ]
    return lines + ([f"{len(audit) - 5} more findings of the fp16 audit are in the report"] if len(audit) > 5 else [])


def _counted(claims: list[dict[str, object]]) -> str:
    """How many claims hold, and which could not be checked here."""
    checked = [claim["holds"] for claim in claims if claim["holds"] is not None]
    others = [f"{claim['claim']} ({claim['detail']})" for claim in claims if claim["holds"] is None]
    held = f"{sum(checked)} of {len(checked)} claims of its report hold"
    return f"{held}; not checked: {', '.join(others)}" if others else held


def _integers(int8: dict[str, object], quantization: dict[str, object]) -> list[str]:
    """What really is int8, what stays float and why."""
    plan, lines = quantization["plan"], []
    if int8.get("int8_macs_fraction") is not None:
        lines.append(
            f"{int8['int8_macs_fraction']:.1%} of the multiply-accumulates and {int8['weight_fraction']:.1%} of the "
            f"weights in int8 ({int8['basis']})"
        )
    if plan["keep_float"]:
        lines.append(f"kept float by {plan['chosen_by']}: {', '.join(plan['keep_float'])}")
    if not plan["target_met"]:
        lines.append(f"no plan tried reached {plan['target_db']:g} dB on the calibration images; this is the best")
    return lines


def _place(location: dict[str, object]) -> str:
    stages = ", ".join(f"{s['stage']} {_number(s['rel_max'], '.1e') or 'nowhere'}" for s in location["stages"])
    if location["first_stage"] is None:
        return f"every stage agrees with PyTorch ({stages})"
    operation = location["first_operation"]
    where = f", first in line {operation['line']}: {operation['type']} {operation['outputs'][0]}" if operation else ""
    return f"leaves PyTorch in {location['first_stage']}{where} (rel_max by stage: {stages})"
