"""Published data sets: fetched once, checked by their hash, and kept."""

import os
from pathlib import Path

import numpy as np

DYSCO3_URL = (
    "https://github.com/msa-em/fused-multi-modal-em/raw/"
    "3e03dd23564f3fd1938226d42864c419b4aeccbd/data/PTO_Trilayer_dataset.npz"
)
DYSCO3_SHA256 = "150cdc0a478791d258a900a89c02e4cae483c9010e227992097101eae3bcec81"

DATA_FOLDER_VARIABLE = "HYPERSPY_FUSEDMM_DATA"


def dysco3():
    """Element maps and HAADF image of DyScO3 at atomic resolution (EDX, 256 x 256 pixels).

    The maps are **quantified fractions between 0 and 1, not counts**, and the file gives no
    pixel size: the axes are in pixels.

    The file (2 MB) is fetched on first use and kept in the cache folder of the system. Where the
    environment variable ``HYPERSPY_FUSEDMM_DATA`` names a folder, ``dysco3/dysco3.npz`` in it is
    read instead and nothing is fetched.

    Returns
    -------
    maps : ElementMaps
        Elements Sc, Dy, O.
    haadf : hyperspy.api.signals.Signal2D
        HAADF image on the same grid.

    Raises
    ------
    FileNotFoundError
        If ``HYPERSPY_FUSEDMM_DATA`` is set but the file is not there.
    ConnectionError
        If the file cannot be fetched; the message says what to do.

    References
    ----------
    M. Manassa, R. Shah et al., "Fused Multi-Modal Electron Microscopy: a beginner's guide",
    Elemental Microscopy (2024); data: https://github.com/msa-em/fused-multi-modal-em (MIT licence).

    Examples
    --------
    >>> import hyperspy_fusedmm as fmm
    >>> maps, haadf = fmm.data.dysco3()  # doctest: +SKIP
    >>> maps.elements  # doctest: +SKIP
    ['Sc', 'Dy', 'O']
    """
    from hyperspy.signals import Signal2D

    from ..signals.element_maps import element_maps

    with np.load(_dysco3_file()) as data:
        maps = element_maps({element: data[element] for element in ("Sc", "Dy", "O")})
        haadf = Signal2D(data["HAADF"])
    for axis, name in zip(haadf.axes_manager.signal_axes, ("x", "y")):
        axis.name = name
    for axis, name in zip(maps.axes_manager.signal_axes, ("x", "y")):
        axis.name = name
    maps.metadata.General.title = "DyScO3, quantified fractions"
    haadf.metadata.General.title = "DyScO3, HAADF"
    return maps, haadf


def _dysco3_file():
    folder = os.environ.get(DATA_FOLDER_VARIABLE)
    if folder:
        path = Path(folder) / "dysco3" / "dysco3.npz"
        if not path.is_file():
            raise FileNotFoundError(
                f"{path} does not exist. {DATA_FOLDER_VARIABLE} is set to {folder!r}: put the file "
                f"there ({DYSCO3_URL}), or unset the variable to have it fetched."
            )
        return path
    return _fetch(DYSCO3_URL, DYSCO3_SHA256, "dysco3.npz")


def _fetch(url, sha256, name):
    import pooch

    try:
        return Path(
            pooch.retrieve(
                url, f"sha256:{sha256}", fname=name, path=pooch.os_cache("hyperspy_fusedmm")
            )
        )
    except OSError as error:  # requests raises subclasses of it
        raise ConnectionError(
            f"{name} could not be fetched from {url} ({error}). Without a connection, copy it from "
            f"a machine that has one to FOLDER/dysco3/{name} and set the environment variable "
            f"{DATA_FOLDER_VARIABLE} to FOLDER."
        ) from error
