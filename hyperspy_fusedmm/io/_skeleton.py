"""Calibrated signals of a Velox file, by RosettaSciIO, without its data.

RosettaSciIO reads a small copy of the file that holds one frame of one image and an
empty event stream. So axes and metadata are those that ``hs.load`` gives, and neither
the spectrum image nor a stack of images is made.
"""

import os
import tempfile

import h5py
import numpy as np

from ._event_stream import NEXT_PIXEL
from ._velox_layout import WANTED

# Groups that hold settings and references between the data sets.
_SETTINGS = ("Version", "Info", "Displays", "Operations", "SharedProperties", "Features")


def skeleton_signals(velox, select_type, image=None, stream=None):
    """Signals that RosettaSciIO makes of one frame of an image, or of an empty stream.

    Parameters
    ----------
    velox : VeloxFile
    select_type : {"images", "spectrum_image"}
    image : VeloxImage, optional
    stream : VeloxStream, optional

    Returns
    -------
    list of hyperspy signals
    """
    import hyperspy.api as hs

    with tempfile.TemporaryDirectory(prefix="hyperspy_fusedmm_") as folder:
        skeleton = os.path.join(folder, os.path.basename(velox.path))
        with velox.open() as source, h5py.File(skeleton, "w") as copy:
            _write_skeleton(source, copy, image, stream)
        # Not summing detectors spares a remark that there is only one.
        options = {"select_type": select_type, "sum_EDS_detectors": False}
        try:
            loaded = hs.load(skeleton, file_format="EMD", **options)
        except Exception as error:
            raise ValueError(
                f"path: RosettaSciIO cannot read the metadata of {velox.path!r} "
                f"({type(error).__name__}: {error}). {WANTED}."
            ) from error
    loaded = loaded if isinstance(loaded, list) else [loaded]
    folder, filename = os.path.split(os.path.abspath(velox.path))
    stem, extension = os.path.splitext(filename)
    for signal in loaded:
        signal.tmp_parameters.folder = folder
        signal.tmp_parameters.filename = stem
        signal.tmp_parameters.extension = extension
    return loaded


def _write_skeleton(source, copy, image, stream):
    """Copy everything that RosettaSciIO reads except the data.

    One image has its first frame, or a single pixel where only the spectrum is
    wanted; the stream holds one empty pixel.
    """
    for name in _SETTINGS:
        if name in source:
            source.copy(name, copy)
    if "Presentation/Displays" in source:
        source.copy("Presentation/Displays", copy.create_group("Presentation"))
    images = source["Data/Image"]
    key = image.key if image is not None else next(iter(images))
    target = copy.create_group(f"Data/Image/{key}")
    data = images[key]["Data"]
    target["Data"] = data[:, :, :1] if image is not None else np.zeros((1, 1, 1), np.uint16)
    target["Metadata"] = images[key]["Metadata"][:, :1]
    for key, group in source.get("Data/SpectrumImage", {}).items():
        target = copy.create_group(f"Data/SpectrumImage/{key}")
        group.copy("SpectrumImageSettings", target)
        target["Metadata"] = group["Metadata"][:, :1]
    if stream is not None:
        group = source["Data/SpectrumStream"][stream.key]
        target = copy.create_group(f"Data/SpectrumStream/{stream.key}")
        group.copy("AcquisitionSettings", target)
        target["Metadata"] = group["Metadata"][:, :1]
        target["Data"] = np.full((1, 1), NEXT_PIXEL, dtype=np.uint16)
