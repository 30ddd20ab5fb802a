"""The bytes of an image file, plain or gzipped, no more of them at a time than were asked for.

A header tells how many bytes an image has. So a small file that would inflate to gigabytes, and a header that promises
what its file cannot hold, are found before memory is taken for them.
"""

from __future__ import annotations

import errno
import os
import stat
import zlib
from pathlib import Path
from types import TracebackType

from ivdjax.volume import CaseError

SLACK_BYTES = 1 << 20
"""What may follow an image in its file: padding, and a few notes."""

MOST_DEFLATED = 1040
"""Deflate packs no more than 1032 bytes into one."""

_GZIP = b"\x1f\x8b"
_GZIP_FORMAT = 16 + zlib.MAX_WBITS
"""Makes zlib read gzip's header, and its checksum at the end."""
_CHUNK = 1 << 20


def size_of_file(path: Path) -> int:
    """Size in bytes of a regular file, or of the one that a link leads to.

    Raises:
        OSError: there is none, a link leads nowhere, or it is a folder, a pipe or a device, at which a reader could
            wait for ever.
    """
    try:
        found = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            what = "it is a link to a file that is not there (fetch its content, or mend the link)"
            raise FileNotFoundError(errno.ENOENT, what, str(path)) from None
        raise
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or a device, no file", str(path))
    return found.st_size


class Content:
    """The content of a file from its beginning on; what is gzipped is inflated, whatever the file's name says.

    Raises:
        OSError: the file cannot be opened; see `size_of_file`.
    """

    def __init__(self, path: Path) -> None:
        self.file_bytes = size_of_file(path)
        """Size of the file as it lies on the disk."""
        self._stream = path.open("rb")
        try:
            self._packed = self._stream.read(2) == _GZIP
            self._stream.seek(0)
        except BaseException:
            self._stream.close()
            raise
        self._inflater = zlib.decompressobj(_GZIP_FORMAT) if self._packed else None
        self._waiting = b""  # packed bytes that were read and not yet inflated
        self._peeked = b""
        self.trailing = False
        """Whether something was met behind the end of the gzipped data that is no gzip stream; it is passed over."""

    def __enter__(self) -> Content:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:  # fmt: skip
        self._stream.close()

    @property
    def most_bytes(self) -> int:
        """More than this the file cannot hold."""
        return self.file_bytes * MOST_DEFLATED if self._packed else self.file_bytes

    def take(self, count: int) -> bytes:
        """The next `count` bytes; fewer at the end.

        Raises:
            EOFError: a gzipped file ends too early.
            zlib.error: gzipped data are damaged, or their checksum is wrong.
            OSError: the file cannot be read.
        """
        parts, self._peeked = [self._peeked[:count]], self._peeked[count:]
        count -= len(parts[0])
        while count > 0 and (part := self._inflate(count) if self._packed else self._stream.read(count)):
            parts.append(part)
            count -= len(part)
        return b"".join(parts)

    def peek(self, count: int) -> bytes:
        """As `take`, but the next call begins at the same place."""
        if len(self._peeked) < count:
            self._peeked = self.take(count)
        return self._peeked[:count]

    def finish(self) -> bool:
        """Reads on to the end, so that gzip's own checksum is looked at; whether it came within `SLACK_BYTES`.

        Raises:
            EOFError, zlib.error, OSError: as `take`.
        """
        rest = 0
        while part := self.take(min(_CHUNK, SLACK_BYTES + 1 - rest)):
            rest += len(part)
            if rest > SLACK_BYTES:
                return False
        return True

    def _inflate(self, count: int) -> bytes:
        """Up to `count` bytes more; nothing at the end alone."""
        while self._inflater is not None:
            if self._inflater.eof and not self._next_member():
                break
            if not self._waiting:
                self._waiting = self._stream.read(_CHUNK)
            if not self._waiting:
                # What is left may wait inside of the inflater.
                part = self._inflater.decompress(b"", count)
                if not part and not self._inflater.eof:
                    raise EOFError("it ends before its gzip stream does")
            else:
                part = self._inflater.decompress(self._waiting, count)
                self._waiting = self._inflater.unconsumed_tail
            if part:
                return part
        return b""

    def _next_member(self) -> bool:
        """Goes on to the next of several gzip streams in one file; False at the end, which other bytes may follow.

        Zeros between streams are padding.
        """
        assert self._inflater is not None
        self._waiting = self._inflater.unused_data + self._waiting
        while not (rest := self._waiting.lstrip(b"\0")):
            self._waiting = self._stream.read(_CHUNK)
            if not self._waiting:
                self._inflater = None
                return False
        rest += self._stream.read(1) if len(rest) < len(_GZIP) else b""
        if not rest.startswith(_GZIP):
            self._inflater, self._waiting, self.trailing = None, b"", True
            return False
        self._waiting, self._inflater = rest, zlib.decompressobj(_GZIP_FORMAT)
        return True


def opened(path: Path, case: str) -> Content:
    """The content of a case's file.

    Raises:
        CaseError: no such file, no file, an empty one, or one that cannot be opened.
    """
    try:
        content = Content(path)
    except OSError as error:
        raise _refusal(error, path, case) from None
    if content.file_bytes == 0:
        with content:
            raise CaseError(f"case {case}: {path} is empty; copy it again")
    return content


def refuse_unreadable(path: Path, case: str) -> None:
    """Lets a file pass that can be opened and is not empty, for libraries that open it themselves.

    Raises:
        CaseError: as `opened`.
    """
    with opened(path, case):
        pass


def _refusal(error: OSError, path: Path, case: str) -> CaseError:
    if isinstance(error, FileNotFoundError) and not path.is_symlink():
        return CaseError(f"case {case}: no file {path}")
    return CaseError(f"case {case}: {path} cannot be read: {error.strerror or error}")
