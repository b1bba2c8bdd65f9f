"""Chunks of arrays in a folder, for what does not fit in memory.

Every chunk is one ``.npy`` file of its own, written under another name first: a file is
whole or absent, whatever happens. Neighbours read the strips they need through a memory map.
"""

import io
import json
import os
import shutil
import tempfile
import threading
import uuid
import weakref
from functools import lru_cache
from pathlib import Path

import numpy as np

__all__ = ["Scratch", "ScratchError"]

# NumPy parses the head of a file with `ast`, which in some Pythons (3.11) fails now and then if two threads do
# so at once: https://github.com/python/cpython/issues/106905
_heads = threading.Lock()


class ScratchError(OSError):
    """The scratch folder cannot be used; the message says what to do."""


class Scratch:
    """A folder of chunks.

    Parameters
    ----------
    folder : path, optional
        Where to work; a temporary folder that vanishes with this object if not given.
    needed : int
        Bytes that will be written.
    fingerprint : dict
        What the work is about. A folder with other work is refused.
    resume : bool
        Go on with what lies there.

    Raises
    ------
    ScratchError
        If the folder cannot be written, has too little space, or holds other work.
    """

    def __init__(self, folder, needed, fingerprint, resume=False):
        self.temporary = folder is None
        try:
            if folder is None:
                folder = tempfile.mkdtemp(prefix="fusedmm-")
                self._finalizer = weakref.finalize(self, shutil.rmtree, folder, True)
            self.folder = str(Path(folder).absolute())
            os.makedirs(self.folder, exist_ok=True)
            free = shutil.disk_usage(self.folder).free
            self._mark(fingerprint, resume)
        except ScratchError:
            raise
        except OSError as error:
            raise ScratchError(
                f"scratch: the folder {str(folder)!r} cannot be written ({error}); name another."
            ) from error
        if free < needed and not resume:
            raise ScratchError(
                f"scratch: {needed / 1e9:.1f} GB are needed, but {self.folder!r} has only "
                f"{free / 1e9:.1f} GB left; name a folder on a larger disk."
            )

    def _mark(self, fingerprint, resume):
        path = os.path.join(self.folder, "work.json")
        if not os.path.exists(path):
            if resume:
                raise ScratchError(f"resume: found no unfinished work in {self.folder!r}.")
            if os.listdir(self.folder):
                raise ScratchError(
                    f"scratch: the folder {self.folder!r} is not empty; name an empty or a new one."
                )
            with open(path + ".new", "w") as file:
                json.dump(fingerprint, file)
            os.replace(path + ".new", path)
            return
        if not resume:
            raise ScratchError(
                f"scratch: found unfinished work in {self.folder!r}; pass resume= to go on with it, "
                "or name another folder."
            )
        with open(path) as file:
            found = json.load(file)
        different = [name for name in fingerprint if found.get(name) != fingerprint[name]]
        if different:
            raise ScratchError(
                f"resume: the work in {self.folder!r} is another one (different: "
                f"{', '.join(different)}); start anew with scratch=."
            )

    def __getstate__(self):
        # Only the process that made a temporary folder removes it.
        return {"folder": self.folder, "temporary": self.temporary}

    def path(self, name, i, j):
        return os.path.join(self.folder, f"{name}-{i}-{j}.npy")

    def has(self, name, i, j):
        return os.path.exists(self.path(name, i, j))

    def write(self, name, i, j, array):
        path = self.path(name, i, j)
        temporary = f"{path}.{uuid.uuid4().hex}.part"
        try:
            with open(temporary, "wb") as file:
                np.save(file, array)
            os.replace(temporary, path)
        except OSError as error:
            if os.path.exists(temporary):
                os.remove(temporary)
            advice = (
                "name a folder on a larger disk with scratch="
                if self.temporary
                else "make room and go on with resume=, or name another folder"
            )
            raise ScratchError(
                f"scratch: writing to {self.folder!r} failed ({error}); {advice}."
            ) from error

    def remove(self, name, i, j):
        try:
            os.remove(self.path(name, i, j))
        except FileNotFoundError:
            pass

    def read(self, name, row_ends, column_ends, bounds):
        """A region (row, row_end, column, column_end) of an array that lies in chunks."""
        row, row_end, column, column_end = bounds
        out = None
        for i in range(len(row_ends) - 1):
            top, bottom = max(row, row_ends[i]), min(row_end, row_ends[i + 1])
            if top >= bottom:
                continue
            for j in range(len(column_ends) - 1):
                left, right = max(column, column_ends[j]), min(column_end, column_ends[j + 1])
                if left >= right:
                    continue
                piece = _mapped(self.path(name, i, j))
                if out is None:
                    shape = piece.shape[:-2] + (row_end - row, column_end - column)
                    out = np.empty(shape, piece.dtype)
                out[..., top - row : bottom - row, left - column : right - column] = piece[
                    ..., top - row_ends[i] : bottom - row_ends[i],
                    left - column_ends[j] : right - column_ends[j],
                ]  # fmt: skip
        return out


def _mapped(path):
    """Memory map of a ``.npy`` file. Thousands of them have few heads, each of which is parsed once."""
    with open(path, "rb") as file:
        head = file.read(10)
        head += file.read(int.from_bytes(head[8:], "little"))
        with _heads:
            shape, fortran, dtype = _layout(head)
        return np.memmap(file, dtype, "r", len(head), shape, "F" if fortran else "C")


@lru_cache(maxsize=256)
def _layout(head):
    file = io.BytesIO(head)
    np.lib.format.read_magic(file)
    return np.lib.format.read_array_header_1_0(file)
