"""What the verifier catches: every mutant of the mutation suite, by kind, as a Markdown table.

    python -m benchmarks.mutation_suite [--mode xxs] [--seed N] [--per-kind N] [--image-size N]

Two fp32 packages with sensitive random weights are exported, one with labels; each mutant is a copy with one fault. It
is caught when the outputs that the program evaluator computes differ from PyTorch's by rel_max > 1e-5 on a photo, a
black image or noise; it is located when `locate` names the stage that was changed. What is not caught is listed with
the reason; see tests/mutation.
"""

import argparse
import tempfile
import time
from pathlib import Path

from tests.mutation import suite
from tests.mutation.mutants import PER_KIND, SEED


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mode", choices=("xxs", "xs", "s"), default="xxs")
    parser.add_argument("--seed", type=int, default=SEED, help="draws the places and the changes")
    parser.add_argument("--per-kind", type=int, default=PER_KIND)
    parser.add_argument("--image-size", type=int, default=256)
    given = parser.parse_args()
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        subjects = suite.subjects(Path(folder), mode=given.mode, image_size=given.image_size)
        outcomes = suite.all_outcomes(subjects, seed=given.seed, per_kind=given.per_kind)
    print(suite.table(outcomes))
    print(f"\n{given.mode} at {given.image_size}, seed {given.seed}: {time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
