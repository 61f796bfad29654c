"""What the verifier is worth: files that are wrong in one place are caught by what they compute, and located.

No checksum, no structure is compared here: a mutant is caught when its outputs differ from PyTorch's by more than
rel_max 1e-5, in fp32, on two or three images. One that computes the same counts as not caught.
"""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from mvit_deploy import verification
from mvit_deploy.images import ImageSet
from mvit_deploy.locate import locate
from mvit_deploy.parity import MISMATCH
from mvit_deploy.runtimes.coreml.package import weights_folder
from mvit_deploy.verification import Expectation
from tests.mutation import suite
from tests.mutation.mutants import KINDS, LABELLED, PLAIN, draw, make
from tests.mutation.suite import TOLERANCE, Outcome, Subject

JUDGED_IN_FULL = (
    "q and k swapped", "wrong layer_norm axes", "TensorFlow's padding", "colours reordered", "labels shuffled",
    "one channel times 1.1",
)  # fmt: skip


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Subject]:
    return suite.subjects(tmp_path_factory.mktemp("small"), image_size=128)


def unexplained(outcomes: list[Outcome]) -> list[str]:
    return [str(outcome.mutant) for outcome in outcomes if not outcome.caught and not outcome.reason]


@pytest.mark.parametrize("name", [PLAIN, LABELLED])
def test_an_untouched_file_matches_and_is_not_accused(small: dict[str, Subject], name: str) -> None:
    subject = small[name]

    found = locate(subject.path, subject.trail, tolerance=TOLERANCE)

    assert subject.error(subject.path) <= TOLERANCE
    assert (found.stage, found.operation) == (None, None)
    assert all(stage.within for stage in found.stages)


def test_one_mutant_of_each_kind_is_caught_and_located(small: dict[str, Subject]) -> None:
    outcomes = suite.all_outcomes(small, per_kind=1)

    shown = suite.table(outcomes)
    assert [outcome.mutant.kind for outcome in outcomes] == [kind.name for kind in KINDS]
    assert unexplained(outcomes) == [], shown
    assert [str(o.mutant) for o in outcomes if o.caught and not o.located] == [], shown


def test_the_verdict_on_a_mutant_is_mismatch(small: dict[str, Subject], tmp_path: Path) -> None:
    chosen = [wanted for wanted in draw(suite.paths(small), per_kind=1) if wanted.kind.name in JUDGED_IN_FULL]

    verdicts = {}
    for wanted in chosen:
        subject = small[wanted.package]
        mutant = make(wanted, subject.path, tmp_path)
        verdicts[mutant.kind] = verification.verify(mutant.path, few(subject)).verdict

    assert verdicts == dict.fromkeys(JUDGED_IN_FULL, MISMATCH)
    assert verification.verify(small[PLAIN].path, few(small[PLAIN])).verdict == "match"


def test_the_same_seed_draws_the_same_mutants(small: dict[str, Subject], tmp_path: Path) -> None:
    wanted = [draw(suite.paths(small), per_kind=1)[-4:] for _ in range(2)]

    made = [[make(w, small[w.package].path, tmp_path / str(i)) for w in ws] for i, ws in enumerate(wanted)]

    assert [str(mutant) for mutant in made[0]] == [str(mutant) for mutant in made[1]]
    assert weight_bytes(made[0][-1].path) == weight_bytes(made[1][-1].path)
    assert weight_bytes(made[0][-1].path) != weight_bytes(small[made[0][-1].package].path)


@pytest.mark.slow
def test_95_percent_are_caught_and_90_percent_of_those_located(tmp_path: Path) -> None:
    outcomes = suite.all_outcomes(suite.subjects(tmp_path))

    shown = suite.table(outcomes)
    counts = Counter(outcome.mutant.kind for outcome in outcomes)
    caught = [outcome for outcome in outcomes if outcome.caught]
    located = [outcome for outcome in caught if outcome.located]
    assert (len(outcomes) >= 150, len(counts) >= 20, min(counts.values()) >= 5) == (True, True, True), shown
    assert len({str(outcome.mutant) for outcome in outcomes}) == len(outcomes), shown
    assert len(caught) >= 0.95 * len(outcomes), shown
    assert len(located) >= 0.90 * len(caught), shown
    assert [str(o.mutant) for o in outcomes if o.refused] == [], shown
    assert unexplained(outcomes) == [], shown


def few(subject: Subject) -> Expectation:
    """The photo and the noise of the subject's verification images, which are fifteen."""
    inputs, chosen = subject.work.judging.inputs, list(suite.IMAGES[:2])
    names, kinds = (tuple(np.array(values)[chosen].tolist()) for values in (inputs.names, inputs.kinds))
    images = ImageSet(inputs.pixels[chosen], kinds, names)
    outputs = {name: values[chosen] for name, values in subject.work.judging.outputs.items()}
    return Expectation(subject.work.contract, "fp32", images, outputs)


def weight_bytes(package: Path) -> bytes:
    return (weights_folder(package) / "weights" / "weight.bin").read_bytes()
