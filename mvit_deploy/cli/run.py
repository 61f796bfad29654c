"""The bodies of mvit-export and mvit-verify: run, show the steps and the table."""

from pathlib import Path

import click
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from mvit_deploy import findings, pipeline, recheck, report
from mvit_deploy.cli import plan_tables, plots
from mvit_deploy.cli.console import Steps
from mvit_deploy.errors import UsageError
from mvit_deploy.findings import Findings
from mvit_deploy.parity import MATCH, MISMATCH, NOT_RUN
from mvit_deploy.report import Report
from mvit_deploy.request import QUANTIZED, Options
from mvit_deploy.request import plan as files_asked_for

_STYLES = {MATCH: "green", NOT_RUN: "yellow"}


def run_export(mode: str | None, named: dict[str, object], *, plot: Path | None, as_json: bool) -> int:
    """Export as the options say; human text to stderr, with as_json the reports to stdout. Returns the exit code."""
    options = Options(**named)
    if plot is not None:
        _check_plot(plot, options)
    with Steps() as steps:
        work = pipeline.prepare(mode, options, steps)
        reports = [_told(result, steps) for result in pipeline.run(work, steps)]
    found = findings.of(reports)
    if found is not None:
        plan_tables.show(found, steps.console)
    _show(reports, steps.console, as_json=as_json)
    _where_they_are(reports, steps.console)
    codes = [result.exit_code for result in reports]
    if plot is not None:
        codes.append(_draw(found, [name for name, _ in work.fused.named_modules()], plot, steps.console))
    return report.overall_exit_code(codes)


def _check_plot(path: Path, options: Options) -> None:
    """See that there will be something to draw, and that it can be. Raises: UsageError; MissingLibraryError."""
    jobs, _ = files_asked_for(options)
    if options.calibration is None or not any(job.precision in QUANTIZED for job in jobs):
        raise UsageError(
            "--plot draws what int8 costs each layer: it needs --calibration and one of the precisions "
            f"{', '.join(QUANTIZED)}"
        )
    plots.check(path)


def _draw(found: Findings | None, order: list[str], path: Path, console: Console) -> int:
    """Draw blame and frontier, the layers in this order. Returns an exit code: the files are there, drawn or not."""
    from mvit_deploy.cli import plan_plot

    if found is None:
        console.print(f"{path} is not drawn: nothing was quantized", soft_wrap=True, markup=False)
        return 0
    return plots.draw(path, lambda: plan_plot.save(found, order, path) or "", console)


def run_verify(files: list[Path], named: dict[str, object], *, as_json: bool) -> int:
    """Judge files again as the options say. Returns the exit code."""
    with Steps() as steps:
        steps(f"judging {', '.join(path.name for path in files)}")
        reports = [_told(result, steps) for result in recheck.run(files, recheck.Options(**named))]
    _show(reports, steps.console, as_json=as_json)
    if not named["locate"] and any(result.verdict == MISMATCH for result in reports):
        steps.console.print("mvit-verify --locate FILE names the first stage and operation that differ", markup=False)
    return report.overall_exit_code(result.exit_code for result in reports)


def _show(reports: list[Report], console: Console, *, as_json: bool) -> None:
    if as_json:
        click.echo(report.dump([result.to_json() for result in reports]), nl=False)
    console.print(_table(reports))
    for result in reports:
        for line in _remarks(result):
            console.print(f"{result.path.name}: {line}", soft_wrap=True, markup=False)


def _told(result: Report, steps: Steps) -> Report:
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
    lines = [result.reason] if result.reason else []
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


def _where_they_are(reports: list[Report], console: Console) -> None:
    kept = [result.path for result in reports if Path(result.path).exists()]
    if kept:
        console.print(f"Written to {kept[0].parent}: {', '.join(p.name for p in kept)}", soft_wrap=True, markup=False)
    failed = [report.failed_path(r.path) for r in reports if report.failed_path(r.path).exists()]
    if failed:
        console.print(f"Not written; the numbers are in {', '.join(map(str, failed))}", soft_wrap=True, markup=False)
