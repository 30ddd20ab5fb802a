"""The pixels of a DICOM file as its header means them, whatever compresses them.

pydicom decodes them; where it has no decoder, or none for 12 bits, SimpleITK (GDCM) does. What either hands over is
reduced to the bits that the header says are stored: codecs code whole words, and above the stored bits lie old
overlays, or the sign of a value that was not carried on.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ivdjax.imaging.files.dicom_file import raise_if_of_the_disk
from ivdjax.volume import CaseError

_WORDS = (8, 16, 32)
_GDCM_READS = (".50", ".51", ".57", ".70", ".80", ".81", ".90", ".91")
"""Ends of the transfer syntaxes 1.2.840.10008.1.2.4.* that GDCM decodes."""
_SYNTAXES = "1.2.840.10008.1.2.4"
_NEEDED = ("Rows", "Columns", "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation")


def stored_values(dataset: Any, path: Path, case: str) -> NDArray:
    """The stored values of every image of a file: (image, row, column), whole numbers of the stored bits.

    Args:
        dataset: of the whole file, as pydicom reads it.
        path: of the file, for messages.
        case: for messages.

    Raises:
        CaseError: pixels of another kind than whole numbers of 8, 16 or 32 bits whose lowest bits are stored; a
            compression that nothing here decodes.
        Exception: whatever the libraries raise on damaged pixels.
    """
    bits, signed = _checked_bits(dataset, path, case)
    _complete(dataset)
    values = _decoded(dataset, path, case)
    if values.dtype.kind not in "iu":
        raise CaseError(f"case {case}: {path} decodes to values that are not whole numbers; export it uncompressed")
    values = values.reshape(-1, *values.shape[-2:])
    return of_stored_bits(values, bits, signed)


def of_stored_bits(values: NDArray, bits: int, signed: bool) -> NDArray:
    """Whole numbers reduced to their lowest bits, of which the highest is the sign of signed ones."""
    size = values.dtype.itemsize
    values = values.astype(values.dtype.newbyteorder("="), copy=False)
    unsigned = values.view(f"u{size}") if values.dtype.kind == "i" else values
    if bits < 8 * size:
        unsigned = unsigned & unsigned.dtype.type((1 << bits) - 1)
        if signed:
            sign = unsigned.dtype.type(1 << (bits - 1))
            unsigned = (unsigned ^ sign) - sign  # wraps round, as it should
    return unsigned.view(f"i{size}") if signed else unsigned


def _checked_bits(dataset: Any, path: Path, case: str) -> tuple[int, bool]:
    """The number of stored bits, and whether values are signed."""
    if "PixelData" not in dataset:
        if "FloatPixelData" in dataset or "DoubleFloatPixelData" in dataset:
            raise CaseError(f"case {case}: {path} holds pixels as floating point numbers, as maps do; give MR images")
        raise ValueError("no pixels")
    allocated = int(dataset.get("BitsAllocated") or 16)
    stored = int(dataset.get("BitsStored") or allocated)
    high = dataset.get("HighBit")
    high = stored - 1 if high is None or high == "" else int(high)
    if allocated not in _WORDS or not 1 <= stored <= allocated or high != stored - 1:
        raise CaseError(
            f"case {case}: {path} stores {stored} of {allocated} bits with {high} as the highest; the lowest bits of "
            "8, 16 or 32 are needed, export it again"
        )
    signed = int(dataset.get("PixelRepresentation") or 0) == 1
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = allocated, stored, high
    dataset.PixelRepresentation = int(signed)
    return stored, signed


def _complete(dataset: Any) -> None:
    """Adds what pydicom wants to know and archives leave out: how the file was found to be encoded, one gray value."""
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    if not dataset.file_meta.get("TransferSyntaxUID"):
        implicit, little = dataset.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = dataset.get("PhotometricInterpretation") or "MONOCHROME2"


def _decoded(dataset: Any, path: Path, case: str) -> NDArray:
    from pydicom.pixels import get_decoder

    syntax = dataset.file_meta.TransferSyntaxUID
    known = not syntax.is_private and syntax.is_transfer_syntax
    if known and (syntax.is_deflated or not syntax.is_compressed):
        _refuse_short(dataset)
        return dataset.pixel_array
    other = syntax.startswith(_SYNTAXES) and syntax[len(_SYNTAXES) :] in _GDCM_READS
    try:
        decoder: Any = get_decoder(syntax)
    except NotImplementedError:
        decoder = None
    if decoder is not None and decoder.is_available:
        try:
            return dataset.pixel_array
        except Exception as error:
            raise_if_of_the_disk(error)
            if not other:
                raise
    if other:
        return np.stack([_through_gdcm(dataset, frame) for frame in _frames(dataset)])
    raise CaseError(
        f"case {case}: {path} is compressed in a way that nothing installed here decodes ({_name(syntax)}); decompress "
        "it first, as with dcmdjpeg, gdcmconv --raw or dcm2niix, or install a decoder for pydicom"
    )


def _refuse_short(dataset: Any) -> None:
    """Refuses fewer bytes than rows, columns and bits make; what pads or follows them is nobody's."""
    frames = int(dataset.get("NumberOfFrames") or 1)
    wanted = frames * int(dataset.Rows) * int(dataset.Columns) * (int(dataset.BitsAllocated) // 8)
    if len(dataset.PixelData) < wanted:
        raise EOFError(f"{len(dataset.PixelData)} of {wanted} bytes of pixels are there")


def _name(syntax: Any) -> str:
    """A transfer syntax's name; of one that nobody knows nothing is repeated, as it may be any text."""
    known = not syntax.is_private and syntax.is_transfer_syntax
    return str(syntax.name) if known else "an unknown transfer syntax"


def _frames(dataset: Any) -> Iterator[bytes]:
    from pydicom.encaps import generate_frames

    return generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames") or 1))


def _through_gdcm(dataset: Any, frame: bytes) -> NDArray:
    """One compressed image, decoded by GDCM from a file that holds nothing but its pixels."""
    import SimpleITK
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import MRImageStorage, generate_uid

    bare = Dataset()
    bare.SOPClassUID, bare.SOPInstanceUID = MRImageStorage, generate_uid()
    for keyword in _NEEDED:
        setattr(bare, keyword, dataset.get(keyword))
    bare.SamplesPerPixel, bare.PhotometricInterpretation = 1, "MONOCHROME2"
    bare.PixelData = encapsulate([frame])
    bare["PixelData"].VR, bare["PixelData"].is_undefined_length = "OB", True
    bare.file_meta = FileMetaDataset()
    bare.file_meta.TransferSyntaxUID = dataset.file_meta.TransferSyntaxUID
    reader = SimpleITK.ImageFileReader()
    reader.SetImageIO("GDCMImageIO")
    with _room() as path:
        bare.save_as(path, enforce_file_format=True)
        reader.SetFileName(path)
        array = SimpleITK.GetArrayFromImage(reader.Execute())
    if array.shape[-2:] != (dataset.Rows, dataset.Columns) or array.size != dataset.Rows * dataset.Columns:
        raise ValueError("the decoded image is of another size than the header says")
    return array.reshape(array.shape[-2:])


@contextmanager
def _room() -> Iterator[str]:
    """The name of a file for a moment; in memory where the system can do that."""
    if hasattr(os, "memfd_create") and Path("/proc/self/fd").is_dir():
        handle = os.memfd_create("image")
        try:
            yield f"/proc/self/fd/{handle}"
        finally:
            os.close(handle)
        return
    with tempfile.TemporaryDirectory() as folder:
        yield str(Path(folder) / "image.dcm")
