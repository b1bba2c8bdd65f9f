"""Specimens of the accuracy study, and what a map's error is.

A case is a simulated specimen (`hyperspy_fusedmm.data.Specimen`), whose truth is known. A loss turns maps
into one number per element, smaller where they are better; whatever a method is allowed to choose with
the truth, it chooses by the loss.
"""

from dataclasses import replace

import numpy as np
from scipy.ndimage import shift

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm.data.specimen import atomic_number

# "-power": the HAADF image is the papers' sum of (Z_i atoms_i)^gamma in place of the linear sum.
SPECIMENS = {
    f"{name}{suffix}": (make, forward)
    for suffix, forward in (("", "linear"), ("-power", "power"))
    for name, make in (
        ("particles", fmm.data.core_shell_particles),
        ("lattice", fmm.data.perovskite_lattice),
        ("film", fmm.data.gallium_oxide_film),
    )
}
# A prediction of zero against one held-out count would be infinitely wrong: predictions count as no less
# than this part of their map's mean.
LOWEST_PREDICTION = 1e-3
# An element has HAADF contrast from this part of the heaviest element's intensity per count.
CONTRAST = 0.25


def simulated(name, *, dose, snr, seed, size, spectrum_image=False):
    """The specimen of one cell of the tables.

    Parameters
    ----------
    name : str
        Of `SPECIMENS`.
    dose : float
        Mean counts per pixel and element.
    snr : float
        Signal-to-noise ratio of the HAADF image.
    seed, size : int
        Seed, and rows and columns.
    spectrum_image : bool
        Whether to simulate the spectra too.

    Returns
    -------
    Specimen
    """
    make, forward = SPECIMENS[name]
    return make(
        shape=(size, size),
        dose=dose,
        haadf_snr=snr,
        seed=seed,
        forward=forward,
        spectrum_image=spectrum_image,
    )


def relative_errors(maps, truth):
    """Root-mean-square error over the root mean square of the truth, per element."""
    maps, truth = (
        np.asarray(values, dtype=float).reshape(len(truth), -1) for values in (maps, truth)
    )
    return np.linalg.norm(maps - truth, axis=1) / np.linalg.norm(truth, axis=1)


def deviances(maps, counts):
    """Poisson deviance of counts from predicted maps, per count and element.

    With the expected counts in place of drawn ones it is the excess, over that of the truth itself, of the
    deviance of another recording of the same dose, without the scatter of one draw.

    Parameters
    ----------
    maps, counts : (E, R, C) array
        Prediction, and counts that it did not see.

    Returns
    -------
    (E,) array
    """
    counts = np.asarray(counts, dtype=float).reshape(len(counts), -1)
    maps = np.asarray(maps, dtype=float).reshape(len(counts), -1)
    floor = LOWEST_PREDICTION * counts.mean(axis=1, keepdims=True)
    expected = np.maximum(maps, np.maximum(floor, np.finfo(float).tiny))
    ratio = np.where(counts > 0, counts, 1.0) / np.where(counts > 0, expected, 1.0)
    terms = expected - counts + counts * np.log(ratio)
    return 2 * terms.sum(axis=1) / np.maximum(counts.sum(axis=1), 1.0)


def has_contrast(specimen):
    """Which elements add at least a quarter of the HAADF intensity of the heaviest one, count for count.

    Returns
    -------
    (E,) array of bool
    """
    numbers = np.array([atomic_number(element) for element in specimen.elements], dtype=float)
    weights = numbers**specimen.gamma / np.array(list(specimen.sensitivities.values()))
    return weights >= CONTRAST * weights[numbers.argmax()]


def spoilt(specimen):
    """The specimen with its image as it is, and spoilt in one way after the other.

    Parameters
    ----------
    specimen : Specimen

    Returns
    -------
    dict of str to Specimen
    """
    image = np.asarray(specimen.haadf.data, dtype=float)
    signal = image.mean() - specimen.haadf_offset
    half = specimen.haadf_offset + 0.5 * (image.max() - specimen.haadf_offset)
    images = {
        "as it is": image,
        "offset +20 %": image + 0.2 * signal,
        "gain +30 %": specimen.haadf_offset + 1.3 * (image - specimen.haadf_offset),
        "inverted": image.max() + image.min() - image,
        "shifted by 3 pixels": shift(image, (0, 3), order=0, mode="nearest"),
        "clipped": np.minimum(image, half),
    }
    cases = {
        name: replace(specimen, haadf=specimen.haadf._deepcopy_with_new_data(changed))
        for name, changed in images.items()
    }
    order = np.argsort(specimen.weights * np.mean(specimen.truth.data, axis=(1, 2)))
    for name, element in (("brightest", order[-1]), ("darkest", order[0])):
        cases[f"{name} element missing"] = without(specimen, int(element))
    return cases


def without(specimen, element):
    """The specimen with one element not mapped."""
    kept = [i for i in range(len(specimen.elements)) if i != element]
    names = [specimen.elements[i] for i in kept]
    return replace(
        specimen,
        truth=_only(specimen.truth, names),
        maps=_only(specimen.maps, names),
        sensitivities={name: specimen.sensitivities[name] for name in names},
        weights=specimen.weights[kept],
    )


def _only(maps, names):
    return fmm.element_maps({name: maps.get_map(name) for name in names})
