"""What is laid beside an exported file, so that it can be judged without PyTorch: golden file and certificate."""

from dataclasses import dataclass, replace
from pathlib import Path

from mvit_deploy import certificate, golden, verification
from mvit_deploy.golden import Golden
from mvit_deploy.parity import MISMATCH, NOT_RUN
from mvit_deploy.verification import Expectation, Verification


@dataclass(frozen=True, eq=False)
class Evidence:
    """Golden inputs and outputs, and the file's run on them, by what is expected of it."""

    expected: Expectation
    golden: Golden
    run: Verification

    def write(self, content: dict[str, object], partial: Path) -> None:
        """Write the golden file beside a file that still has a temporary name, and put the certificate, with the digest
        over all of it, into a report that is otherwise whole."""
        golden.write(golden.golden_path(partial), self.golden)
        content[certificate.KEY] = certificate.entry(content, self.expected.contract, self.golden, self.run, partial)
        certificate.seal(content)


def unmeasured(expected: Expectation) -> Evidence:
    """For a file that is not run here: the smallest choice of images."""
    places, limit = next(golden.choices(expected.inputs))
    kept = golden.take(expected.inputs, expected.outputs, places, limit)
    return Evidence(expected, kept, Verification(NOT_RUN, verification.NOT_ASKED))


def measured(partial: Path, expected: Expectation, found: Verification) -> tuple[Verification, Evidence]:
    """The verdict on a file that was found no mismatch on all images, and the first choice of images on which it is
    judged alike. It is run on them alone, as it will be later: batches are then the same.

    The last choice is everything; a file that is judged in another way on that too gives now this, now that, which is a
    mismatch.
    """
    for places, limit in golden.choices(expected.inputs):
        kept = golden.take(expected.inputs, expected.outputs, places, limit)
        held_to = verification.golden_expectation(expected.contract, expected.precision, kept, expected.report_only)
        run = verification.verify(partial, held_to)
        evidence = Evidence(expected, replace(kept, measured=run.outputs), run)
        if run.verdict == found.verdict:
            return found, evidence
    unsteady = f"the file was run twice on the same images, and the second time: {run.reason}"
    return replace(run, verdict=MISMATCH, reason=unsteady), evidence
