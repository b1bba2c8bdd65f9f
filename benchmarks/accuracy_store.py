"""Results of the accuracy study in a file that is complete at any moment, so that a study can be resumed."""

import json
import os
from pathlib import Path

import numpy as np


class Store:
    """Records, each a dict of plain values, one for every method on every recording.

    Parameters
    ----------
    path : path
        JSON file; read where it exists.
    """

    def __init__(self, path):
        self.path = Path(path)
        self.records = json.loads(self.path.read_text()) if self.path.exists() else []

    def find(self, **identity):
        """The record with these values, or None."""
        return next((r for r in self.records if identity.items() <= r.items()), None)

    def add(self, record):
        """Add a record and write the file anew."""
        self.records.append(json.loads(json.dumps(record, default=_plain)))
        unfinished = self.path.with_name(self.path.name + ".part")
        unfinished.write_text("[\n" + ",\n".join(map(json.dumps, self.records)) + "\n]\n")
        os.replace(unfinished, self.path)


def _plain(value):
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} is not stored")
