"""What catches each fault of the last metre, in files of one network: a Markdown table of faults and files.

    python -m benchmarks.photo_mutants --weights model.pth --images photos/ [--count 6] exported/*.onnx …

Each fault is put into a copy of each file. `numbers`: photos labelled, or boxes found, or
points labelled, by the file's own declarations leave the floors
of its precision, whatever a report says. `contract`: what it says of itself is not what it was asked to say. `refused`:
its reader finds that it contradicts itself. A file without a place for a fault has a dot. Ends with 1 where one is
missed.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from mvit_deploy import labelling, live, reference, runtimes
from mvit_deploy.labelling.photos import Photos, image_size, photos_below
from mvit_deploy.spec import Output
from tests.mutation.photo_mutants import FAULTS_OF, Caught, Fault, Good, judged, mutants


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--count", type=int, default=6, help="photos to judge on")
    parser.add_argument("files", type=Path, nargs="+")
    given = parser.parse_args()
    source = reference.from_weights(None, str(given.weights), num_classes=None, seed=0)
    photos = photos_below(given.images).first(given.count)
    columns = {}
    for path in given.files:
        sound = _sound(path, source, photos)
        caught = judged(path, sound)
        if caught:
            print(f"{path} does not match untouched: {caught.refused or caught.contract or caught.numbers}")
            return 1
        with tempfile.TemporaryDirectory() as folder:
            columns[path] = {fault: judged(mutant, sound) for fault, mutant in mutants(sound, Path(folder))}
        print(f"{path}: {len(columns[path])} faults", file=sys.stderr, flush=True)
    return _show(columns, FAULTS_OF[labelling.KINDS[source.task]])


def _sound(path: Path, source: reference.Reference, photos: Photos) -> Good:
    found = runtimes.open_file(path).interface
    size, kind = image_size(found.inputs[0]), labelling.KINDS[source.task]
    ending, output_stride = live.ending_of(found, source.task, size)
    module = reference.with_ending(reference.with_output_stride(source, output_stride), ending, size)
    outputs = reference.run(module, photos.prepared(source.preprocessing, size))
    promised = tuple(Output(name, values.shape[1:]) for name, values in outputs.items())
    answers = kind.of_reference(outputs, found.labels, found)
    return Good(path, found.precision, photos, answers, source.preprocessing, kind, promised)


def _show(columns: dict[Path, dict[str, Caught]], faults: dict[str, Fault]) -> int:
    """Print the table and the counts. Returns 1 where a fault is missed."""
    names = [f"{path.parent.name}/{path.name.removeprefix('mobilevit_')}" for path in columns]
    print("| fault | " + " | ".join(names) + " |")
    print("|---|" + "---|" * len(names))
    for fault in faults:
        print(f"| {fault} | " + " | ".join(_cell(found.get(fault)) for found in columns.values()) + " |")
    every = [caught for found in columns.values() for caught in found.values()]
    missed = [caught for caught in every if not caught]
    alone = sum(bool(caught.numbers) for caught in every)
    print(f"\n{len(every) - len(missed)} of {len(every)} caught, {alone} of them by the numbers alone.")
    return int(bool(missed))


def _cell(caught: Caught | None) -> str:
    if caught is None:
        return "·"
    kinds = {"numbers": caught.numbers, "contract": caught.contract, "refused": caught.refused}
    return ", ".join(kind for kind, said in kinds.items() if said) or "**missed**"


if __name__ == "__main__":
    sys.exit(main())
