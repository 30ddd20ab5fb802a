"""How a process that runs networks handles memory that is freed."""

from __future__ import annotations

import contextlib
import ctypes

# Names of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8

_KEPT_BYTES = 1 << 30


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, up to 1 GiB, for what it allocates next; for a process of our own only.

    XLA allocates the work space of a program on a CPU anew at each call. By default glibc takes blocks of this size
    from the kernel and gives them back, so that every page of them is cleared again at each call: a seventh of a
    prediction's time, and more than a quarter of a training step's. To be called before there are threads; elsewhere
    than on glibc nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        # A thread's own arena would hold no block of more than 64 MiB.
        mallopt(_M_ARENA_MAX, 1)
