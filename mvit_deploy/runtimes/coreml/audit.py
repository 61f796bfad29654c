"""The fp16 audit: what each intermediate of a program does to half precision on given inputs.

A program is run twice: in fp32, which says what its values mean, and typed, which rounds each result as declared. What
overflows, what falls among the subnormals and where precision is lost is named with its line. Rules of the Neural
Engine and the pessimistic half mode give warnings: they model hardware that is not here. Sources: IEEE 754 binary16;
arXiv 2606.22283 for the Neural Engine (measured by others on M1 and M5).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

import numpy as np

from mvit_deploy.runtimes.coreml.arithmetic import HALF_MAX, HALF_SMALLEST_NORMAL, HALF_STEP
from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.program import Operation, Program, TensorType

SHOWN = 5  # values in a report at either end
LOST_DB = 10.0  # below, the error of a value is a third of it and more
HALF_MODE_DB = 20.0
NEURAL_ENGINE_PRODUCT = 32768.0  # a convolution or matrix product beyond it becomes infinity there
NEURAL_ENGINE_SLICE = 4094.0  # a slice of the last axis that begins behind 0 overflows beyond it (M1, A14)
NEURAL_ENGINE_SOFTPLUS = 10.39  # from here on it gives 0 there
_PRODUCTS = {"conv", "conv_transpose", "linear", "matmul", "einsum"}


@dataclass(frozen=True)
class Finding:
    """One thing worth knowing. severity: fault for what half precision cannot hold, warning for what may go wrong."""

    severity: str
    kind: str
    line: int
    operation: str
    value: str
    detail: str


@dataclass
class Range:
    """What one value did over all inputs."""

    operation: Operation
    largest: float = 0.0
    finite: bool = True
    signal: float = 0.0
    noise: float = 0.0

    @property
    def sqnr_db(self) -> float | None:
        if self.noise == 0 or not np.isfinite(self.noise):
            return None
        return 10 * float(np.log10(self.signal / self.noise)) if self.signal > 0 else None


@dataclass(frozen=True)
class Audit:
    """The range of every fp16 value over all inputs, by name, and what is worth knowing, in the program's order."""

    inputs: int
    ranges: dict[str, Range]
    findings: tuple[Finding, ...] = field(default=())

    def to_json(self) -> dict[str, object]:
        """Findings, the values nearest to the end of half precision, and those that lost most to rounding."""
        lossy = {name: seen for name, seen in self.ranges.items() if seen.sqnr_db is not None}
        return {
            "inputs": self.inputs,
            "fp16_values": len(self.ranges),
            "largest": [_shown(n, self.ranges[n]) for n in sorted(self.ranges, key=self._size)[:SHOWN]],
            "least_precise": [_shown(n, lossy[n]) for n in sorted(lossy, key=lambda n: lossy[n].sqnr_db)[:SHOWN]],
            "findings": [asdict(finding) for finding in self.findings],
        }

    def _size(self, name: str) -> float:
        return -self.ranges[name].largest


def _shown(name: str, seen: Range) -> dict[str, object]:
    return {
        "value": name,
        "line": seen.operation.line,
        "operation": seen.operation.type,
        "max_abs": seen.largest if np.isfinite(seen.largest) else None,
        "sqnr_db": None if seen.sqnr_db is None else round(seen.sqnr_db, 1),
    }


def audited_run(
    program: Program, images: Sequence[dict[str, np.ndarray]]
) -> tuple[list[dict[str, object]], Audit | None]:
    """The typed outputs for each input, and the audit; None for a program that computes nothing in fp16.

    Raises: DamagedFileError and UnknownOperationError as Evaluator.
    """
    typed = Evaluator(program, "typed")
    if not any(kind.dtype == "fp16" for operation in program.operations for _, kind in operation.outputs):
        return [typed.run(image) for image in images], None
    exact = Evaluator(program, "fp32")
    ranges: dict[str, Range] = {}
    outputs = [_observe(exact, typed, image, ranges) for image in images]
    findings = _constant_findings(program) + _range_findings(ranges) + _half_findings(program, images, outputs)
    return outputs, Audit(len(images), ranges, tuple(sorted(findings, key=lambda f: f.line)))


def _observe(
    exact: Evaluator, typed: Evaluator, image: dict[str, np.ndarray], ranges: dict[str, Range]
) -> dict[str, object]:
    meant: dict[str, np.ndarray] = {}

    def remember(operation: Operation, name: str, kind: TensorType, value: np.ndarray) -> None:
        if kind.dtype == "fp16":
            meant[name] = value

    def compare(operation: Operation, name: str, kind: TensorType, value: np.ndarray) -> None:
        if kind.dtype == "fp16" and value.size:
            _add(ranges.setdefault(name, Range(operation)), meant.pop(name), value)

    exact.run(image, watch=remember)
    return typed.run(image, watch=compare)


def _add(seen: Range, meant: np.ndarray, value: np.ndarray) -> None:
    largest = float(max(value.max(), -value.min()))
    if not np.isfinite(largest):
        seen.finite = False
    seen.largest = max(seen.largest, largest) if np.isfinite(largest) else float("inf")
    seen.signal += _energy(meant)
    with np.errstate(all="ignore"):
        seen.noise += _energy(value - meant)


def _energy(x: np.ndarray) -> float:
    flat = np.ascontiguousarray(x).ravel()
    with np.errstate(all="ignore"):
        quick = float(np.dot(flat, flat))
    return quick if np.isfinite(quick) and quick > 1e-30 else float((flat.astype(np.float64) ** 2).sum())


def _constant_findings(program: Program) -> list[Finding]:
    """Constants that were lost when they were written as fp16."""
    used = {
        argument.name: (operation, key)
        for operation in program.operations
        for key, arguments in operation.inputs.items()
        for argument in arguments
        if argument.name in program.constants
    }
    found = []
    for name, (operation, key) in used.items():
        constant = program.constants[name]
        if constant.type.dtype != "fp16" or not isinstance(constant.value, np.ndarray) or not constant.value.size:
            continue
        size = float(np.abs(constant.value).max())
        if not np.isfinite(size):
            found.append(_finding("fault", "constant", operation, name, f"{key} holds a value that is not finite"))
        elif key == "epsilon" and size < 64 * HALF_STEP:
            detail = f"epsilon is {size:.3g}; fp16 has steps of 6e-08 there, so it has lost its precision"
            severity = "fault" if size < 4 * HALF_STEP else "warning"
            found.append(_finding(severity, "constant", operation, name, detail))
    return found


def _range_findings(ranges: dict[str, Range]) -> list[Finding]:
    found, spoilt = [], set()
    for name, seen in ranges.items():
        operation = seen.operation
        spoilt_before = any(a.name in spoilt for arguments in operation.inputs.values() for a in arguments)
        faults = [] if spoilt_before else _faults(name, seen)
        found += faults + _neural_engine(name, seen)
        if faults or (spoilt_before and (not seen.finite or _is_lost(seen))):
            spoilt.add(name)
    return found


def _faults(name: str, seen: Range) -> list[Finding]:
    """What half precision cannot hold, told where it begins."""
    operation = seen.operation
    if not seen.finite:
        return [_finding("fault", "not finite", operation, name, "a result is NaN or infinite")]
    if seen.largest > HALF_MAX:
        return [_finding("fault", "overflow", operation, name, f"reaches {seen.largest:.4g}, fp16 ends at 65504")]
    if _is_lost(seen):
        return [_finding("fault", "precision lost", operation, name, f"only {seen.sqnr_db:.1f} dB from what it means")]
    if 0 < seen.largest < HALF_SMALLEST_NORMAL:
        return [_finding("fault", "subnormal", operation, name, f"never exceeds {seen.largest:.3g}")]
    return []


def _is_lost(seen: Range) -> bool:
    return seen.sqnr_db is not None and seen.sqnr_db < LOST_DB


def _neural_engine(name: str, seen: Range) -> list[Finding]:
    operation, largest = seen.operation, seen.largest
    if not seen.finite or largest > HALF_MAX:
        return []
    detail = None
    if operation.type in _PRODUCTS and largest > NEURAL_ENGINE_PRODUCT:
        detail = f"reaches {largest:.4g}: beyond 32768 a product becomes infinity there"
    elif operation.type in ("slice_by_index", "slice_by_size") and largest > NEURAL_ENGINE_SLICE:
        detail = f"reaches {largest:.4g}: a slice of the last axis behind its beginning may overflow there beyond 4094"
    elif operation.type == "softplus" and largest > NEURAL_ENGINE_SOFTPLUS:
        detail = f"reaches {largest:.4g}: from 10.39 on softplus gives 0 there"
    return [] if detail is None else [_finding("warning", "Neural Engine", operation, name, detail)]


def _half_findings(
    program: Program, images: Sequence[dict[str, np.ndarray]], outputs: list[dict[str, object]]
) -> list[Finding]:
    """A warning where sums kept in half precision would spoil an output, on the first and the last input."""
    half = Evaluator(program, "half")
    signal, noise = {}, {}
    for place in {0, len(images) - 1} if images else ():
        for name, value in half.run(images[place]).items():
            if isinstance(value, np.ndarray):
                expected = np.asarray(outputs[place][name])
                signal[name] = signal.get(name, 0.0) + _energy(expected)
                with np.errstate(invalid="ignore"):
                    noise[name] = noise.get(name, 0.0) + _energy(value - expected)
    last = program.operations[-1]
    found = []
    for name, energy in signal.items():
        if not noise[name] * 10 ** (HALF_MODE_DB / 10) <= energy:  # also for NaN
            detail = "is spoilt if sums are kept in fp16 (pessimistic: no Apple hardware is known to do that)"
            found.append(_finding("warning", "half mode", last, name, detail))
    return found


def _finding(severity: str, kind: str, operation: Operation, value: str, detail: str) -> Finding:
    return Finding(severity, kind, operation.line, operation.type, value, detail)
