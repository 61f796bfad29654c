"""Runs mutants: the untouched packages, what catches a mutant, what locates it, and the table of it all."""

import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from mvit_deploy import parity, pipeline
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.locate import Trail, locate, trail
from mvit_deploy.nn.build import seeded_classifier
from mvit_deploy.nn.heads.classification import Classifier
from mvit_deploy.pipeline import Work
from mvit_deploy.request import Options
from mvit_deploy.runtimes.coreml.evaluator import Evaluator
from mvit_deploy.runtimes.coreml.interface import read_interface
from mvit_deploy.runtimes.coreml.package import read_specification, weights_folder
from mvit_deploy.runtimes.coreml.pixels import image_tensor
from mvit_deploy.runtimes.coreml.program import read_program
from mvit_deploy.spec import CLASS_LABEL, CLASS_PROBABILITIES
from tests.conftest import LABELS
from tests.mutation.mutants import LABELLED, PER_KIND, PLAIN, SEED, Draw, Mutant, draw, make

TOLERANCE = 1e-5  # of rel_max, on the outputs of one image
IMAGES = 0, 12, 8  # of the verification set: a photo, black, noise; the later ones only where the first agree
LOCATING_IMAGES = 2

# Mutants that compute the same within TOLERANCE: kind, what their change says, why. They count as not caught.
EQUIVALENT = (
    (
        "wrong layer_norm epsilon",
        "-> 1e-12",
        "the variance of most tokens is 5 to 100 here: 1e-5 less beside it moves the outputs by 1e-6, as rounding does",
    ),
    (
        "wrong layer_norm epsilon",
        "-> 0.001",
        "the variance of most tokens is 5 to 100 here: 1e-3 more beside it scales a token by 5e-6 to 1e-4, of which "
        "less than 1e-5 reaches the outputs",
    ),
    (
        "one bias changed",
        "(k)",
        "a bias of k adds one number, q b, to all scores of a query, which softmax takes out again: the same in exact "
        "numbers",
    ),
)


@dataclass(frozen=True)
class Subject:
    """An untouched package and what PyTorch gives for the same images."""

    path: Path
    model: Classifier
    work: Work

    @property
    def pixels(self) -> np.ndarray:
        return self.work.judging.inputs.pixels[list(IMAGES)]

    @cached_property
    def trail(self) -> Trail:
        return trail(self.model, self.pixels[:LOCATING_IMAGES], ".mlpackage")

    def error(self, path: Path) -> float:
        """The largest rel_max of a file's computed outputs, fp32 throughout; images after the first fault are left out.

        Of a labelled package the numbers are the logarithms of the probabilities, centred, by the labels' names; a
        label that is not the reference's is an infinite error. So is a value that is not finite.
        """
        spec = read_specification(path)
        declared = read_interface(spec, "mlpackage").inputs[0]
        evaluator = Evaluator(read_program(spec, weights_folder(path)), "fp32")
        worst = 0.0
        for place, image in zip(IMAGES, self.pixels, strict=True):
            outputs = evaluator.run({declared.name: image_tensor(image, declared)})
            worst = max(worst, self._error_of(outputs, self.work.judging.outputs["logits"][place]))
            if not worst <= TOLERANCE:
                break
        return worst

    def _error_of(self, outputs: Mapping[str, object], logits: np.ndarray) -> float:
        labels = self.work.contract.labels
        if labels is None:
            return _rel_max(logits, outputs["logits"][0])
        if outputs[CLASS_LABEL] != labels[int(logits.argmax())]:
            return float("inf")
        given = np.array([[outputs[CLASS_PROBABILITIES][label] for label in labels]])
        return _rel_max(
            parity.comparable(parity.softmax(logits[None]), "probabilities"), parity.comparable(given, "probabilities")
        )


def _rel_max(reference: np.ndarray, candidate: np.ndarray) -> float:
    found = parity.measure(reference=reference, candidate=candidate).rel_max
    return float("inf") if found is None else found


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant. refused: the reader's words, where it did not open it."""

    mutant: Mutant
    error: float
    stage: str | None = None
    operation: str = ""
    refused: str = ""

    @property
    def caught(self) -> bool:
        return not self.refused and not self.error <= TOLERANCE

    @property
    def located(self) -> bool:
        return self.caught and self.stage == self.mutant.stage

    @property
    def reason(self) -> str:
        """Why a mutant that is not caught computes the same; nothing where that is not known."""
        found = (why for kind, part, why in EQUIVALENT if kind == self.mutant.kind and part in self.mutant.change)
        return next(found, "")


def subjects(folder: Path, *, mode: str = "xxs", image_size: int = 256) -> dict[str, Subject]:
    """Two fp32 packages with sensitive random weights, one with labels; their weights differ."""
    seeds = {PLAIN: 0, LABELLED: 7}
    models = {
        PLAIN: seeded_classifier(mode, seed=seeds[PLAIN]),
        LABELLED: seeded_classifier(mode, len(LABELS), seed=seeds[LABELLED]),
    }
    return {name: _subject(folder / name, model, name == LABELLED, image_size) for name, model in models.items()}


def _subject(folder: Path, model: Classifier, has_labels: bool, image_size: int) -> Subject:
    options = Options(
        target="coreml",
        precision="fp32",
        image_size=image_size,
        labels=LABELS if has_labels else None,
        output=folder,
    )
    work = pipeline.prepare(model, options, lambda step: None)
    (report,) = pipeline.run(work, lambda step: None)
    return Subject(report.path, model, work)


def run(given: Mapping[str, Subject], draws: Iterable[Draw]) -> Iterable[Outcome]:
    """One mutant after the other, each in a folder that is gone after it."""
    for wanted in draws:
        with tempfile.TemporaryDirectory() as folder:
            subject = given[wanted.package]
            yield judge(subject, make(wanted, subject.path, Path(folder)))


def judge(subject: Subject, mutant: Mutant) -> Outcome:
    """Catch a mutant by its outputs, then locate it."""
    try:
        error = subject.error(mutant.path)
    except DamagedFileError as refusal:
        return Outcome(mutant, float("inf"), refused=str(refusal))
    if error <= TOLERANCE:
        return Outcome(mutant, error)
    found = locate(mutant.path, subject.trail, tolerance=TOLERANCE, is_wrong=True)
    return Outcome(mutant, error, found.stage, str(found.operation or ""))


def paths(given: Mapping[str, Subject]) -> dict[str, Path]:
    return {name: subject.path for name, subject in given.items()}


def all_outcomes(given: Mapping[str, Subject], *, seed: int = SEED, per_kind: int = PER_KIND) -> list[Outcome]:
    return list(run(given, draw(paths(given), seed=seed, per_kind=per_kind)))


def table(outcomes: Sequence[Outcome]) -> str:
    """Markdown: mutants, caught and located by kind, then whatever was not caught, located or opened."""
    lines = ["| kind | mutants | caught | stage located |", "|---|--:|--:|--:|"]
    for kind in dict.fromkeys(outcome.mutant.kind for outcome in outcomes):
        lines.append(_row(kind, [outcome for outcome in outcomes if outcome.mutant.kind == kind]))
    lines.append(_row("**all**", outcomes))
    lines += _listed("Not caught", [f"{o.mutant}; {o.reason or 'NO REASON KNOWN'}" for o in outcomes if _survived(o)])
    wrong = [f"{o.mutant}; named {o.stage}, {o.operation}" for o in outcomes if o.caught and not o.located]
    lines += _listed("Located elsewhere", wrong)
    lines += _listed("Refused", [f"{o.mutant}; {o.refused}" for o in outcomes if o.refused])
    return "\n".join(lines)


def _survived(outcome: Outcome) -> bool:
    return not outcome.caught and not outcome.refused


def _row(name: str, outcomes: Sequence[Outcome]) -> str:
    caught, located = sum(o.caught for o in outcomes), sum(o.located for o in outcomes)
    return f"| {name} | {len(outcomes)} | {caught} | {located} |"


def _listed(title: str, lines: Sequence[str]) -> list[str]:
    return ["", f"{title}:", "", *[f"- {line}" for line in lines]] if lines else []
