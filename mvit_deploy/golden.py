"""Golden inputs and outputs: a few images, and what PyTorch gave for them, so that a file can be judged without it.

They lie beside a file as a NumPy archive of plain arrays: pixels, kinds, names, reference/NAME, measured/NAME.
"""

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from mvit_deploy import parity
from mvit_deploy.errors import DamagedFileError
from mvit_deploy.images import ImageSet

PHOTOS, PHOTOS_OF_LARGE, LARGE_PX = 3, 2, 256 * 256
LIMIT_VALUES = 50_000  # of an output for one image; a row of classes is never cut
LIMIT_BYTES = 2**29  # of all arrays of an archive; more is neither written nor read
RULE = "kept place i is place i * places // kept; a place is a row along class_axis, or one value, in PyTorch's layout"

_MOST_MEMBERS = 64
# What zipfile, zlib and NumPy's reading of headers, which tokenizes them, raise.
_UNREADABLE = (
    OSError, ValueError, LookupError, TypeError, ArithmeticError, EOFError, RuntimeError, MemoryError, SyntaxError,
    tokenize.TokenError, struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
_DATE = (1980, 1, 1, 0, 0, 0)  # the first that a zip archive can say
_REFERENCE, _MEASURED = "reference/", "measured/"


@dataclass(frozen=True)
class Sample:
    """Which values of an output are kept: so many evenly spaced places, the same for every image.

    shape: of one image, as PyTorch lays it out. class_axis: of shape; what lies along it is kept whole. None: each
    value is a place of its own.
    """

    shape: tuple[int, ...]
    class_axis: int | None
    kept: int

    @property
    def places(self) -> int:
        return math.prod(self._others(self.shape))

    def pick(self, values: np.ndarray) -> np.ndarray:
        """The kept values. One row of classes stays as it is, and so do values of another shape, which judging refuses.

        Shapes: (count, *shape), with any number of classes -> (count, kept, classes), or (count, kept, 1).
        """
        if self.shape == values.shape[1:] and len(self.shape) == 1:
            return values
        if values.ndim != len(self.shape) + 1 or self._others(values.shape[1:]) != self._others(self.shape):
            return values
        last = values[..., None] if self.class_axis is None else np.moveaxis(values, self.class_axis + 1, -1)
        rows = last.reshape(len(values), self.places, last.shape[-1])
        return rows[:, np.arange(self.kept) * self.places // self.kept]

    def _others(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The sides of a shape that are no classes."""
        return tuple(side for axis, side in enumerate(shape) if axis != self.class_axis)

    def to_json(self) -> dict[str, object]:
        return {
            "shape": list(self.shape),
            "class_axis": self.class_axis,
            "places": self.places,
            "kept": self.kept,
            "rule": RULE,
        }


def sample_of(name: str, shape: tuple[int, ...], limit: int | None = LIMIT_VALUES) -> Sample:
    """The sample of an output of PyTorch's, whose name is what it means. limit: values for one image, None is all."""
    axis = parity.class_axis(name, len(shape) + 1)
    whole = Sample(shape, None if axis is None else axis - 1, 0)
    width = 1 if whole.class_axis is None else shape[whole.class_axis]
    most = whole.places if limit is None else max(1, limit // width)
    return Sample(shape, whole.class_axis, min(whole.places, most))


@dataclass(frozen=True, eq=False)
class Golden:
    """Images and outputs for them. reference: PyTorch's, by its names. measured: the file's own at export, by the
    file's names; empty where it was not run. Both as the samples pick them."""

    inputs: ImageSet
    reference: dict[str, np.ndarray]
    samples: dict[str, Sample]
    measured: dict[str, np.ndarray] = field(default_factory=dict)


def choices(inputs: ImageSet) -> Iterator[tuple[tuple[int, ...], int | None]]:
    """Places of the images to keep and the limit of values, the smallest choice first, the last one is everything.

    First photos that judge (3, or 2 of images larger than 256x256), the first noise and the last extreme; then twice as
    many photos, and so on, then every image, then every value. The order is fixed and knows nothing of errors.
    """
    photos, noise, extremes = (np.flatnonzero(inputs.where(kind)) for kind in ("photo", "noise", "extreme"))
    height, width = inputs.pixels.shape[1:3]
    count = PHOTOS if height * width <= LARGE_PX else PHOTOS_OF_LARGE
    while count < len(photos):
        yield tuple(map(int, (*photos[:count], *noise[:1], *extremes[-1:]))), LIMIT_VALUES
        count *= 2
    if len(photos):
        yield tuple(map(int, (*photos, *noise[:1], *extremes[-1:]))), LIMIT_VALUES
    everything = tuple(range(len(inputs.kinds)))
    yield everything, LIMIT_VALUES
    yield everything, None


def take(inputs: ImageSet, outputs: dict[str, np.ndarray], places: tuple[int, ...], limit: int | None) -> Golden:
    """Some of the images with what PyTorch gave for them. Shapes: outputs (count, …), by name."""
    samples = {name: sample_of(name, values.shape[1:], limit) for name, values in outputs.items()}
    kept = {name: samples[name].pick(values[list(places)]) for name, values in outputs.items()}
    return Golden(inputs.take(places), kept, samples)


def golden_path(path: Path) -> Path:
    return path.with_name(path.name + ".golden.npz")


def write(path: Path, golden: Golden) -> None:
    """Write an archive; the same arrays give the same bytes. Raises: ValueError for more than can be read again."""
    arrays = _arrays(golden)
    if sum(array.nbytes for array in arrays.values()) > LIMIT_BYTES:
        raise ValueError(f"golden arrays of more than {LIMIT_BYTES} bytes")
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy", _DATE)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            with archive.open(entry, "w") as file:
                npy.write_array(file, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)


def _arrays(golden: Golden) -> dict[str, np.ndarray]:
    return {
        "pixels": golden.inputs.pixels,
        "kinds": np.array(golden.inputs.kinds),
        "names": np.array(golden.inputs.names),
        **{_REFERENCE + name: values for name, values in golden.reference.items()},
        **{_MEASURED + name: values for name, values in golden.measured.items()},
    }


def read(path: Path, samples: dict[str, Sample]) -> Golden:
    """Read an archive, held to the samples that its certificate names. Nothing in it is unpickled, and nothing is
    allocated before the sizes that it claims are found to be within LIMIT_BYTES.

    Raises: DamagedFileError for what is no archive of golden arrays.
    """
    try:
        arrays = _read_arrays(path)
        names, kinds = (tuple(map(str, arrays.pop(key))) for key in ("names", "kinds"))
        inputs = ImageSet(arrays.pop("pixels"), kinds, names)
    except _UNREADABLE as error:
        raise DamagedFileError(f"{path.name} is no archive of golden arrays: {error!r}") from error
    reference, measured = (_under(arrays, prefix) for prefix in (_REFERENCE, _MEASURED))
    golden = Golden(inputs, reference, samples, measured)
    _check(golden, path.name)
    return golden


def _under(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): values for name, values in arrays.items() if name.startswith(prefix)}


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    if path.stat().st_size > LIMIT_BYTES:
        raise ValueError(f"a file of {path.stat().st_size} bytes")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        total = sum(member.file_size for member in members)
        if len(members) > _MOST_MEMBERS or total > LIMIT_BYTES:
            raise ValueError(f"{len(members)} arrays of {total} bytes")
        return {member.filename.removesuffix(".npy"): _array(archive, member) for member in members}


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """Raises: ValueError unless the header is of a plain array that has just the size of what follows it."""
    with archive.open(member) as file:
        if npy.read_magic(file) != (1, 0):
            raise ValueError(f"{member.filename}: another version of NumPy's format")
        shape, fortran_order, dtype = npy.read_array_header_1_0(file)
        if dtype.hasobject or dtype.names is not None or fortran_order:
            raise ValueError(f"{member.filename}: not a plain array but {dtype}")
        size = math.prod(shape) * dtype.itemsize
        if member.file_size - file.tell() != size:
            raise ValueError(f"{member.filename}: {shape} of {dtype} are not {member.file_size - file.tell()} bytes")
        content = file.read(size)
        file.read()  # to the end, where zipfile compares the checksum
    return np.frombuffer(content, dtype).reshape(shape)


def _check(golden: Golden, name: str) -> None:
    """Raises: DamagedFileError unless there is a row of each output for each image."""
    pixels, count = golden.inputs.pixels, len(golden.inputs.pixels)
    if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[3] != 3 or not count:
        raise DamagedFileError(f"{name}: pixels are {pixels.shape} of {pixels.dtype}")
    if {len(golden.inputs.names), len(golden.inputs.kinds)} != {count}:
        raise DamagedFileError(f"{name}: not one name and one kind for each of {count} images")
    if set(golden.reference) != set(golden.samples):
        raise DamagedFileError(f"{name}: outputs {sorted(golden.reference)}, expected {sorted(golden.samples)}")
    for output, values in golden.reference.items():
        expected = (count, *_sampled_shape(golden.samples[output]))
        if values.shape != expected or values.dtype not in (np.float32, np.int32):
            raise DamagedFileError(f"{name}: {output} is {values.shape} of {values.dtype}, expected {expected}")


def _sampled_shape(sample: Sample) -> tuple[int, ...]:
    if len(sample.shape) == 1 and sample.class_axis == 0:
        return sample.shape
    return sample.kept, 1 if sample.class_axis is None else sample.shape[sample.class_axis]
