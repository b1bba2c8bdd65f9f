"""Real recordings, of which a part is fused and the rest is kept to score the result.

What is kept is independent of what is fused: other frames of the same field, or the rest of counts that
were thinned at random. The score is the Poisson deviance per kept count.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from accuracy_cases import deviances
from scipy.ndimage import gaussian_filter

import hyperspy_fusedmm as fmm

FRAMES = (1, 2, 4, 8)
# Kept fractions of the counts; the rest scores.
THINNED = (0.02, 0.1, 0.5)
DUST_LINES = ["Ca_Ka", "Cu_Ka", "Fe_Ka", "Ga_Ka", "Mg_Ka", "O_Ka", "Pt_La", "S_Ka", "Si_Ka"]
SILICA_LINES = ["C_Ka", "O_Ka", "Si_Ka"]


@dataclass(frozen=True)
class Recording:
    """What is fused, and what it is scored with.

    Attributes
    ----------
    maps : ElementMaps
        Counts.
    haadf : Signal2D
    held_out : (E, R, C) array
        Counts that were kept.
    scale : float
        Expected kept counts for one expected count of `maps`.
    """

    maps: object
    haadf: object
    held_out: np.ndarray
    scale: float
    # What a simulated specimen has too.
    spectrum: None = None
    forward: str = "linear"
    gamma: float = 1.7

    def loss(self, maps):
        """Deviance of the kept counts per count and element."""
        return deviances(self.scale * np.asarray(maps), self.held_out)


def data_folder():
    """Folder of the data sets: what HYPERSPY_FUSEDMM_DATA names, or the one beside the project."""
    folder = os.environ.get("HYPERSPY_FUSEDMM_DATA")
    folder = Path(folder) if folder else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        raise SystemExit("Name the folder of the data sets in HYPERSPY_FUSEDMM_DATA.")
    return folder


def real_recordings(seed):
    """Name, level (frames, or fraction of the counts) and recording of every real case.

    Parameters
    ----------
    seed : int
        Which frames, and which counts.
    """
    maps, haadf = quantum_dots()
    order = np.random.default_rng(seed).permutation(len(haadf))
    for count in FRAMES:
        yield "quantum dots", count, some_frames(maps, haadf, order[:count])
    for name, load in (("dust particle", dust_particle), ("silica spheres", silica_spheres)):
        maps, haadf = load()
        for fraction in THINNED:
            yield name, fraction, thinned(maps, haadf, fraction, seed)


def quantum_dots():
    """Registered frames: counts of each element (E, F, R, C), and images (F, R, C).

    Frames are shifted by whole pixels, so that counts stay counts, and cut to what all of them show.
    """
    from scipy.io import loadmat
    from skimage.registration import phase_cross_correlation

    arrays = loadmat(data_folder() / "quantum_dots" / "field_6.mat")
    images = np.moveaxis(arrays["haadf_stem"], -1, 0).astype(float)
    sharp = [gaussian_filter(image - image.mean(), 1.5) for image in images]
    reference = sharp[len(sharp) // 2]
    shifts = [
        phase_cross_correlation(reference, image, normalization=None)[0].astype(int)
        for image in sharp
    ]
    counts = {
        element: (np.moveaxis(arrays[key], -1, 0) > 0).astype(float)
        for element, key in (("Se", "Sei_img"), ("S", "Si_img"), ("Zn", "Zni_img"))
    }
    maps = {element: _registered(frames, shifts) for element, frames in counts.items()}
    return maps, _registered(images, shifts)


def _registered(frames, shifts):
    shifts = np.array(shifts)
    first = np.maximum(shifts.max(axis=0), 0)
    last = np.array(frames.shape[1:]) + np.minimum(shifts.min(axis=0), 0)
    inside = tuple(slice(a, b) for a, b in zip(first, last))
    return np.stack([np.roll(f, s, axis=(0, 1))[inside] for f, s in zip(frames, shifts)])


def some_frames(maps, haadf, chosen):
    """Sum of the chosen frames, scored with all others."""
    from hyperspy.signals import Signal2D

    others = np.setdiff1d(np.arange(len(haadf)), chosen)
    return Recording(
        maps=fmm.element_maps(
            {element: frames[chosen].sum(axis=0) for element, frames in maps.items()}
        ),
        haadf=Signal2D(haadf[chosen].sum(axis=0)),
        held_out=np.stack([frames[others].sum(axis=0) for frames in maps.values()]),
        scale=len(others) / len(chosen),
    )


def dust_particle():
    """Interplanetary dust particle: many elements at low counts."""
    import hyperspy.api as hs

    haadf, spectrum = hs.load(data_folder() / "dust_particle" / "tilt_0.bcf")
    return fmm.element_maps(spectrum.get_lines_intensity(DUST_LINES)), haadf


def silica_spheres():
    """Silica spheres on carbon."""
    import hyperspy.api as hs

    spectrum = hs.load(data_folder() / "sio2" / "sio2_eds.hspy")
    haadf = hs.load(data_folder() / "sio2" / "sio2_haadf.hspy")
    return fmm.element_maps(spectrum.get_lines_intensity(SILICA_LINES)), haadf


def thinned(maps, haadf, fraction, seed):
    """Each count is fused with a probability, and scores otherwise."""
    counts = np.rint(np.asarray(maps.data)).astype(np.int64)
    chosen = np.random.default_rng(seed).binomial(counts, fraction)
    return Recording(
        maps=maps._deepcopy_with_new_data(chosen),
        haadf=haadf,
        held_out=counts - chosen,
        scale=(1 - fraction) / fraction,
    )
