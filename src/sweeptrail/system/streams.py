"""What this process has printed and not yet written."""

import contextlib
import ctypes
import os
import sys
from typing import TextIO


def flush(*others: TextIO) -> None:
    """Write what Python's standard streams and those of the C library still hold, and other streams too."""
    for stream in (sys.stdout, sys.stderr, *others):
        # It may be a pipe that nobody reads any more, or somebody may have closed or replaced it.
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


def write_lines_at_once() -> None:
    """Have the C library write what is printed to its standard output line by line, as on a terminal."""
    library = ctypes.CDLL(None)
    stream = ctypes.c_void_p.in_dll(library, "__stdoutp" if sys.platform == "darwin" else "stdout")
    library.setvbuf(stream, None, 1, 0)  # _IOLBF is 1 in every C library that there is
