"""weight.bin, the file in which an ML Program keeps its larger constants.

Layout (coremltools' libmilstorage, blob storage version 2), little-endian: a header of 64 bytes (uint32 count, uint32
version), then entries. An entry is 64 bytes of metadata at the offset that the program names: uint32 sentinel
0xDEADBEEF, uint32 type, uint64 bytes, uint64 offset of the data, uint64 unused bits behind the last element. Elements
of fewer than eight bits are packed with the lowest bits first.
"""

import math
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mvit_deploy.errors import DamagedFileError

SENTINEL = 0xDEADBEEF
VERSION = 2
_METADATA = struct.Struct("<IIQQQ")

# MIL's name of each type that weight.bin holds, in the order of libmilstorage's BlobDataType, which starts at 1.
BLOB_TYPES = (
    "fp16", "fp32", "uint8", "int8", "bf16", "int16", "uint16", "int4", "uint1", "uint2", "uint4", "uint3", "uint6",
    "int32", "uint32", "fp8e4m3fn", "fp8e5m2",
)  # fmt: skip
NUMPY_TYPES = {
    "fp16": "<f2", "fp32": "<f4", "fp64": "<f8", "int8": "i1", "uint8": "u1", "int16": "<i2", "uint16": "<u2",
    "int32": "<i4", "uint32": "<u4", "int64": "<i8", "uint64": "<u8", "bool": "?",
}  # fmt: skip
SUB_BYTE_BITS = {"int4": 4, "uint1": 1, "uint2": 2, "uint3": 3, "uint4": 4, "uint6": 6}


class Blob:
    """An opened weight.bin."""

    def __init__(self, path: Path) -> None:
        """Raises: DamagedFileError when it is missing, too short, or of another version."""
        self._name = path.name
        try:
            self._bytes = np.memmap(path, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise DamagedFileError(f"cannot read {path.name}: {error}") from error
        if self._bytes.size < 64:
            raise DamagedFileError(f"{path.name} is too short for its header")
        version = int.from_bytes(self._bytes[4:8].tobytes(), "little")
        if version != VERSION:
            raise DamagedFileError(f"{path.name} has version {version}, expected {VERSION}")

    def read(self, offset: int, dtype: str, shape: Sequence[int]) -> np.ndarray:
        """The tensor whose metadata stands at an offset.

        Raises: DamagedFileError when the entry lies outside the file, is not one, or holds another type or count.
        """
        sentinel, kind, size, start, padding_bits = _METADATA.unpack(self._part(offset, _METADATA.size))
        if sentinel != SENTINEL:
            raise DamagedFileError(f"{self._name}: there is no entry at offset {offset}")
        found = BLOB_TYPES[kind - 1] if 0 < kind <= len(BLOB_TYPES) else f"unknown ({kind})"
        if found != dtype:
            raise DamagedFileError(f"{self._name}: the entry at offset {offset} is {found}, the program says {dtype}")
        raw = self._part(start, size)
        bits = SUB_BYTE_BITS.get(dtype)
        used = size * 8 - padding_bits if bits else size * 8
        if used != math.prod(shape) * (bits or 8 * np.dtype(NUMPY_TYPES[dtype]).itemsize):
            raise DamagedFileError(f"{self._name}: the entry at offset {offset} does not hold {dtype}{list(shape)}")
        return decode(raw, dtype, shape)

    def _part(self, offset: int, size: int) -> bytes:
        if offset + size > self._bytes.size:
            raise DamagedFileError(f"{self._name} ends before offset {offset + size}: it has {self._bytes.size} bytes")
        return self._bytes[offset : offset + size].tobytes()


def decode(raw: bytes, dtype: str, shape: Sequence[int]) -> np.ndarray:
    """Elements of a MIL type from their bytes; fewer than eight bits come as int8 or uint8.

    Raises: DamagedFileError for a type that has no meaning here or a count that does not fit.
    """
    count = math.prod(shape)
    if dtype in SUB_BYTE_BITS:
        flat = _unpack(raw, SUB_BYTE_BITS[dtype], count, signed=dtype.startswith("int"))
    elif dtype in NUMPY_TYPES:
        kind = np.dtype(NUMPY_TYPES[dtype])
        if len(raw) != count * kind.itemsize:
            raise DamagedFileError(f"{len(raw)} bytes for {dtype}{list(shape)}")
        flat = np.frombuffer(raw, kind)
    else:
        raise DamagedFileError(f"constants of type {dtype} are not known")
    return flat.reshape(tuple(shape))


def _unpack(raw: bytes, bits: int, count: int, *, signed: bool) -> np.ndarray:
    stream = np.unpackbits(np.frombuffer(raw, np.uint8), bitorder="little")
    if stream.size < count * bits:
        raise DamagedFileError(f"{len(raw)} bytes for {count} elements of {bits} bits")
    places = stream[: count * bits].reshape(count, bits)
    values = (places << np.arange(bits, dtype=np.uint8)).sum(axis=1, dtype=np.uint8)
    if not signed:
        return values
    return np.where(values >= 1 << (bits - 1), values.astype(np.int16) - (1 << bits), values).astype(np.int8)
