"""Small files that declare much, in every format."""

from __future__ import annotations

import functools
import io
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import h5py
import imagecodecs
import numpy as np
import tifffile

SHAPE = (5, 12, 10)
ZEROS_A_BLOCK = 16 * 2**20
GIB = 2**30


def deflate_zeros(size: int, *, prefix: bytes = b"", raw: bool = False) -> bytes:
    """Return a deflate stream of ``prefix`` and ``size`` zeros (a multiple of 16 MiB, if more), made in no time."""
    compressor = zlib.compressobj(9, zlib.DEFLATED, -15 if raw else 15)
    if size < ZEROS_A_BLOCK:
        return compressor.compress(prefix + bytes(size)) + compressor.flush()
    first = compressor.compress(prefix) + compressor.flush(zlib.Z_FULL_FLUSH)
    block = compressor.compress(bytes(ZEROS_A_BLOCK)) + compressor.flush(zlib.Z_FULL_FLUSH)
    return first + block * (size // ZEROS_A_BLOCK) + compressor.flush()


def declare_much(kind: str, folder: Path, rng: np.random.Generator) -> Path:
    """Write one of the files of a kind."""
    writers = get_bombs(kind)
    return writers[int(rng.integers(len(writers)))](folder)


def _write_hdf5(folder: Path, name: str, is_hseval: bool, write: Callable[[h5py.File], object]) -> Path:
    path = folder / f"{name}.h5"
    with h5py.File(path, "w") as file:
        if is_hseval:
            file.attrs.update(format="hseval-cubes", version=1)
        write(file)
    return path


def _make_hdf5_bombs(count: tuple[int, ...], *, is_hseval: bool) -> list[Callable[[Path], Path]]:
    """Return writers of files with cubes on a first axis ``count``, or with one cube where it is empty."""

    def make(name: str, write: Callable[[h5py.File], object]) -> Callable[[Path], Path]:
        return lambda folder: _write_hdf5(folder, name, is_hseval, write)

    chunk = (*(1 for _ in count), *SHAPE)
    shape, corner = (*count, *SHAPE), (0,) * len(chunk)

    def add_wavelengths(file: h5py.File) -> None:
        file["cubes"] = np.ones(shape, np.float32)
        file.create_dataset("wavelengths", (2 * 10**9,), "f8", chunks=(1000,))

    def expand_chunk(file: h5py.File) -> None:
        cubes = file.create_dataset("cubes", chunk, "f4", chunks=chunk, compression="gzip")
        cubes.id.write_direct_chunk(corner, deflate_zeros(2 * GIB))

    def declare_chunk(file: h5py.File) -> None:
        large = (*chunk[:-3], 3, 16384, 16384)
        cubes = file.create_dataset("cubes", large, "f4", chunks=large, compression="gzip")
        cubes.id.write_direct_chunk(corner, deflate_zeros(ZEROS_A_BLOCK))

    def compress_twice(file: h5py.File) -> None:
        plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        plist.set_chunk(chunk)
        plist.set_deflate(9)
        plist.set_deflate(9)
        space = h5py.h5s.create_simple(chunk)
        dataset = h5py.h5d.create(file.id, b"cubes", h5py.h5t.NATIVE_FLOAT, space, plist)
        dataset.write_direct_chunk(corner, zlib.compress(deflate_zeros(4 * GIB)))

    def share_text(file: h5py.File) -> None:
        count = 20_000
        file.create_dataset("cubes", data=np.zeros((count, 3, 2, 2), np.uint8), chunks=(count, 3, 2, 2))
        ids = file.create_dataset("ids", (count,), h5py.string_dtype(), chunks=(count,))
        ids[0] = "x" * 2**20
        stored = ids.id.read_direct_chunk((0,))[1]
        ids.id.write_direct_chunk((0,), stored[:16] * count)

    def fill_masks(file: h5py.File) -> None:
        file["cubes"] = np.ones(shape, np.float32)
        for number in range(40):
            file.create_dataset(f"masks/m{number}", (60_000, 60_000), "u1", chunks=(1000, 1000))

    def pack_cubes(file: h5py.File) -> None:
        cubes = file.create_dataset("cubes", (10**8, 3, 2, 2), "u1", chunks=(10**7, 3, 2, 2), compression="gzip")
        for index in range(0, 10**8, 10**7):
            cubes.id.write_direct_chunk((index, 0, 0, 0), deflate_zeros(12 * 10**7))

    return [
        make(
            "cubes", lambda file: file.create_dataset("cubes", (2 * 10**8, *SHAPE)[-len(chunk) :], "f4", chunks=chunk)
        ),
        make("wavelengths", add_wavelengths),
        make("expanding-chunk", expand_chunk),
        make("declared-chunk", declare_chunk),
        make("compressed-twice", compress_twice),
        make("shared-text", share_text) if is_hseval else make("packed-cubes", pack_cubes),
        make("masks", fill_masks),
        make("bands", lambda file: file.create_dataset("cubes", data=np.zeros((*chunk[:-3], 10**6, 2, 3), np.uint8))),
        make("late", lambda file: file.create_dataset("cubes", (1000, 400, 1000, 1000)[-len(chunk) :], "f4")),
    ]


def _make_array_header(shape: Sequence[int], dtype: str = "<f4") -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"descr": dtype, "fortran_order": False, "shape": tuple(shape)})
    return stream.getvalue()


@functools.cache
def _compute_crc(data: bytes) -> int:
    return zlib.crc32(zlib.decompress(data, -15))


def write_zip(path: Path, members: Sequence[tuple[str, bytes, int]]) -> None:
    """Write an archive of deflated members ``(name, data, declared size)``."""
    local, central, count = io.BytesIO(), io.BytesIO(), len(members)
    for name, data, size in members:
        crc = _compute_crc(data) if size < GIB else 0
        fields = struct.pack("<HHHHHIIIHH", 20, 0, 8, 0, 0, crc, len(data), size, len(name), 0)
        central.write(
            b"PK\x01\x02" + b"\x14\x00" + fields + bytes(10) + struct.pack("<I", local.tell()) + name.encode()
        )
        local.write(b"PK\x03\x04" + fields + name.encode() + data)
    start, counts = local.tell(), struct.pack("<HH", count & 0xFFFF, count & 0xFFFF)
    end = b"PK\x05\x06" + bytes(4) + counts + struct.pack("<IIH", central.tell(), start, 0)
    path.write_bytes(local.getvalue() + central.getvalue() + end)


def _write_archive(name: str, *members: tuple[str, bytes, int]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        write_zip(folder / f"{name}.npz", members)
        return folder / f"{name}.npz"

    return write


@functools.cache
def _compress_array(shape: tuple[int, ...], size: int = 0) -> tuple[bytes, int]:
    header = _make_array_header(shape)
    return deflate_zeros(size, prefix=header, raw=True), len(header) + size


def _make_npz_bombs() -> list[Callable[[Path], Path]]:
    cube, cube_size = _compress_array(SHAPE, 2400)
    return [
        _write_archive("bomb", ("cube.npy", *_compress_array((2**10, 2**10, 2**9), 2 * GIB))),
        _write_archive("shape", ("cube.npy", *_compress_array((10**4, 10**4, 10**4), 4000))),
        _write_archive(
            "masks", ("cube.npy", cube, cube_size),
            *((f"masks/m{i}.npy", *_compress_array((2**11, 2**11), ZEROS_A_BLOCK)) for i in range(60)),
        ),
        _write_archive("members", *((f"{i}.npy", cube, cube_size) for i in range(60_000))),
        _write_archive("wavelengths", ("cube.npy", cube, cube_size),
                       ("wavelengths.npy", *_compress_array((2**22,), ZEROS_A_BLOCK))),
        _write_archive("bands", ("cube.npy", *_compress_array((10**6, 2, 4), 2**25))),
    ]  # fmt: skip


def _write_npy(name: str, shape: Sequence[int], length: int = 2400) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / f"{name}.npy").write_bytes(_make_array_header(shape) + bytes(length))
        return folder / f"{name}.npy"

    return write


def pack_element(kind: int, data: bytes, order: str = "<") -> bytes:
    """Return an element of a MATLAB v5 file."""
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def pack_matrix_head(array_class: int, shape: Sequence[int], name: bytes) -> bytes:
    """Return what stands before a matrix' values: flags, shape and name."""
    return (
        pack_element(6, struct.pack("<II", array_class, 0))
        + pack_element(5, struct.pack(f"<{len(shape)}i", *shape))
        + pack_element(1, name)
    )


def _write_mat5(name: str, *variables: bytes) -> Callable[[Path], Path]:
    """Return a writer of a file with variables that are compressed already."""

    def write(folder: Path) -> Path:
        path = folder / f"{name}.mat"
        header = b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x100) + b"IM"
        path.write_bytes(header + b"".join(struct.pack("<II", 15, len(data)) + data for data in variables))
        return path

    return write


def _expand_variable(name: bytes, shape: Sequence[int], size: int) -> bytes:
    head = pack_matrix_head(6, shape, name) + struct.pack("<II", 9, size & 0xFFFFFFFF)
    return deflate_zeros(size, prefix=struct.pack("<II", 14, min(len(head) + size, 2**32 - 1)) + head)


def _nest_structs(depth: int) -> bytes:
    content = pack_element(14, pack_matrix_head(6, (1, 1), b"") + pack_element(9, bytes(8)))
    head, parts, length = pack_matrix_head(1, (1, 1), b""), [content], len(content)
    for _ in range(depth):
        length += len(head)
        parts.append(struct.pack("<II", 14, length) + head)
        length += 8
    fields = struct.pack("<HHI", 5, 4, 32) + pack_element(1, b"artery".ljust(32, b"\0"))
    body = pack_matrix_head(2, (1, 1), b"masks") + fields + b"".join(reversed(parts))
    return zlib.compress(struct.pack("<II", 14, len(body)) + body)


def _make_mat5_bombs() -> list[Callable[[Path], Path]]:
    cube = _expand_variable(b"cube", SHAPE, 4800)
    return [
        _write_mat5("bomb", _expand_variable(b"cube", (2**8, 2**10, 2**10), 2 * GIB)),
        _write_mat5("trailing", _expand_variable(b"cube", SHAPE, GIB + GIB // 4)),
        _write_mat5("nested", cube, _nest_structs(200_000)),
        _write_mat5("shape", _expand_variable(b"cube", (10**3, 10**4, 10**4), 4800)),
        _write_mat5("wavelengths", cube, _expand_variable(b"wavelengths", (1, 10**7), 8 * 10**7)),
        _write_mat5("twice", _nest_structs(10), _nest_structs(200_000)),
    ]


def _write_mat73(write: Callable[[Path], Path]) -> Callable[[Path], Path]:
    def rename(folder: Path) -> Path:
        path = write(folder)
        return path.rename(path.with_suffix(".mat"))

    return rename


def _make_ifd(position: int, tags: Mapping[int, tuple[int, int, int]], is_last: bool) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, *fields) for tag, fields in sorted(tags.items()))
    size = 2 + 12 * len(tags) + 4
    return struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0 if is_last else position + size)


def _write_tiff(
    name: str, data: bytes, *, pages: int = 5, size: tuple[int, int] = (12, 10), compression: int = 1
) -> Callable[[Path], Path]:
    """Return a writer of float32 pages that all share one strip."""

    def write(folder: Path) -> Path:
        path, start = folder / f"{name}.tif", 8 + len(data) + len(data) % 2
        tags = {
            256: (4, 1, size[1]), 257: (4, 1, size[0]), 258: (3, 1, 32), 259: (3, 1, compression), 262: (3, 1, 1),
            273: (4, 1, 8), 277: (3, 1, 1), 278: (4, 1, size[0]), 279: (4, 1, len(data)), 339: (3, 1, 3),
        }  # fmt: skip
        parts, position = [b"II*\0", struct.pack("<I", start), data, bytes(len(data) % 2)], start
        for number in range(pages):
            parts.append(_make_ifd(position, tags, number == pages - 1))
            position += len(parts[-1])
        path.write_bytes(b"".join(parts))
        return path

    return write


def _write_ome(folder: Path) -> Path:
    """Write metadata that declare nine images, of which five are stored."""
    path = folder / "ome.ome.tif"
    tifffile.imwrite(path, np.ones(SHAPE, np.float32), ome=True, metadata={"axes": "CYX"})
    data = path.read_bytes()
    path.write_bytes(data.replace(b'SizeC="5"', b'SizeC="9"'))
    return path


def _make_tiff_bombs() -> list[Callable[[Path], Path]]:
    small = bytes(480)
    return [
        _write_tiff("length", small, size=(2**31 - 1, 10)),
        _write_tiff("deflate", deflate_zeros(2 * GIB), compression=8),
        _write_tiff("deflate-pages", deflate_zeros(ZEROS_A_BLOCK), pages=200, size=(8000, 8000), compression=8),
        _write_tiff("lzw", imagecodecs.lzw_encode(bytes(2**24)), pages=2000, size=(2048, 2048), compression=5),
        _write_tiff("packbits", b"\x81\x00" * 2**17, pages=2000, size=(2048, 2048), compression=32773),
        _write_tiff("zstd", imagecodecs.zstd_encode(bytes(2**26)), pages=2000, size=(4096, 4096), compression=50000),
        _write_tiff("zstd-strip", imagecodecs.zstd_encode(bytes(2**28)), compression=50000),
        _write_tiff("lzma", imagecodecs.lzma_encode(bytes(2**22)), pages=2000, size=(4096, 4096), compression=34925),
        _write_tiff("jpeg", imagecodecs.jpeg_encode(np.zeros((4000, 4000), np.uint8)), compression=7),
        _write_tiff("pages", small, pages=12_000),
        _write_tiff("shared", bytes(2**20), pages=3_000, size=(512, 512)),
        _write_ome,
    ]


def _write_envi(name: str, header: str, raw: bytes = bytes(2400)) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / f"{name}.hdr").write_text(header)
        (folder / f"{name}.img").write_bytes(raw)
        return folder / f"{name}.hdr"

    return write


def _make_envi_header(bands: int = 5, lines: int = 12, samples: int = 10, offset: int = 0, more: str = "") -> str:
    return (
        f"ENVI\nsamples = {samples}\nlines = {lines}\nbands = {bands}\nheader offset = {offset}\n"
        f"data type = 4\ninterleave = bsq\nbyte order = 0\n{more}"
    )


def _make_envi_bombs() -> list[Callable[[Path], Path]]:
    return [
        _write_envi("pixels", _make_envi_header(lines=10**6, samples=10**6)),
        _write_envi("bands", _make_envi_header(bands=10**6, lines=2, samples=2), bytes(16 * 10**6)),
        _write_envi("offset", _make_envi_header(offset=2**63)),
        _write_envi("negative", _make_envi_header(lines=-12, samples=-10)),
        _write_envi("lines", _make_envi_header(more="\n" * 3_000_000)),
        _write_envi("long", _make_envi_header(more=f"wavelength = {{{'1,' * 6_000_000}1}}\n")),
        _write_envi("packed", _make_envi_header(more="file compression = 1\n")),
    ]


def _make_npy_bombs() -> list[Callable[[Path], Path]]:
    return [
        _write_npy("shape", (10**6, 10**6, 10**3)),
        _write_npy("negative", (-5, -12, 10)),
        _write_npy("cubes", (2 * 10**7, 1, 1, 1), 8 * 10**7),
        _write_npy("bands", (10**6, 2, 3), 24 * 10**6),
    ]


def _make_mat73_bombs() -> list[Callable[[Path], Path]]:
    return [_write_mat73(write) for write in _make_hdf5_bombs((), is_hseval=False)]


_MAKERS: Mapping[str, Callable[[], list[Callable[[Path], Path]]]] = {
    "hdf5": lambda: _make_hdf5_bombs((2,), is_hseval=False),
    "hseval-hdf5": lambda: _make_hdf5_bombs((2,), is_hseval=True),
    "npz": _make_npz_bombs,
    "npy": _make_npy_bombs,
    "mat5": _make_mat5_bombs,
    "mat73": _make_mat73_bombs,
    "tiff": _make_tiff_bombs,
    "envi": _make_envi_bombs,
}
KINDS = tuple(_MAKERS)


@functools.cache
def get_bombs(kind: str) -> list[Callable[[Path], Path]]:
    """Return functions that write one small file each to a folder."""
    return _MAKERS[kind]()
