"""From atoms per pixel to what a microscope records of them: counts and a HAADF image.

The specimens of this folder differ only in where their atoms are. What happens
then is the same for all and is written here once, on plain arrays first, and
wrapped into signals at the end.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

# Cliff-Lorimer k-factors (weight fractions, relative to Si K) as they are typical of 200 kV and a
# windowless silicon drift detector, rounded: an example needs their order, not their third digit.
TYPICAL_K_FACTORS = {"O": 1.9, "S": 0.95, "Sc": 1.05, "Co": 1.3, "Ga": 1.6, "Dy": 3.0}

# The line an analyst would map at 200 kV; that of every other element here is Ka.
MAPPED_LINES = {"Dy": "Dy_La"}

FORWARD_MODELS = ("linear", "power")


@dataclass(frozen=True)
class Specimen:
    """A simulated specimen: its truth and what was recorded of it.

    Attributes
    ----------
    truth : ElementMaps
        Expected counts per pixel of each element's mapped X-ray line, ``(E | C, R)``.
    maps : ElementMaps
        Counts drawn from a Poisson distribution with the mean ``truth``; whole numbers.
    haadf : hyperspy.api.signals.Signal2D
        HAADF image ``(| C, R)``. With the truth ``x`` it is
        ``haadf_offset + sum_i weights_i x_i`` for ``forward="linear"`` and
        ``haadf_offset + sum_i (weights_i x_i)**gamma`` for ``forward="power"``, plus noise.
    sensitivities : dict of str to float
        Counts that one atom of each element yields.
    weights : numpy.ndarray of shape (E,)
        HAADF intensity per count, the gain included (see `haadf` for where it enters).
    haadf_offset : float
        HAADF intensity where there is no specimen.
    haadf_noise : float
        Standard deviation of the noise of the HAADF image; 0 without noise.
    gamma : float
        Exponent of the atomic number.
    forward : str
        ``"linear"`` or ``"power"``.
    spectrum : exspy.signals.EDSTEMSpectrum or None
        EDX spectrum image ``(C, R | energy)`` that holds the photons of `maps`, where asked for.
    line_shares : numpy.ndarray of shape (E,) or None
        With a spectrum image: counts of an element in the window of its line for one photon of
        the line. The window cuts off the tails of the line: 0.98 in most cases.
    background : numpy.ndarray of shape (E, R, C) or None
        With a spectrum image: expected counts in the window of each element's line that are not
        of this element (bremsstrahlung and lines of the others).
    """

    truth: Any
    maps: Any
    haadf: Any
    sensitivities: dict
    weights: np.ndarray
    haadf_offset: float
    haadf_noise: float
    gamma: float
    forward: str
    spectrum: Any = None
    line_shares: Any = None
    background: Any = None

    @property
    def elements(self):
        """Chemical symbols in the order of the maps."""
        return list(self.sensitivities)

    def expected_intensities(self):
        """What ``spectrum.get_lines_intensity()`` of eXSpy gives on average.

        Returns
        -------
        numpy.ndarray of shape (E, R, C)
            Expected counts in the window of each line, the background included.

        Raises
        ------
        ValueError
            If the specimen was simulated without a spectrum image.
        """
        if self.spectrum is None:
            raise ValueError(
                "The specimen has no spectrum image: simulate it with spectrum_image=True."
            )
        return self.line_shares[:, None, None] * self.truth.data + self.background


def atomic_number(element):
    """Atomic number of an element from eXSpy's table."""
    from exspy.material import elements

    return int(elements[element].General_properties.Z)


def relative_sensitivities(elements):
    """Counts per atom, relative to each other, of the mapped lines.

    A k-factor relates weight fractions to counts, so one atom yields ``A / k``
    counts, A being the atomic weight.

    Parameters
    ----------
    elements : sequence of str
        Chemical symbols.

    Returns
    -------
    numpy.ndarray of shape (E,)
    """
    from exspy.material import elements as table

    weights = [float(table[element].General_properties.atomic_weight) for element in elements]
    return np.array(weights) / [TYPICAL_K_FACTORS[element] for element in elements]


def expected_counts(atoms, elements, dose):
    """Expected counts of each element, and the counts per atom.

    Parameters
    ----------
    atoms : numpy.ndarray of shape (E, R, C)
        Atoms per pixel.
    elements : sequence of str
        Chemical symbols.
    dose : float
        Mean of the result over all pixels and all elements.

    Returns
    -------
    counts : numpy.ndarray of shape (E, R, C)
    sensitivities : numpy.ndarray of shape (E,)
        Counts per atom.
    """
    relative = relative_sensitivities(elements)
    mean_counts = np.mean(relative * atoms.mean(axis=(1, 2)))
    sensitivities = relative * (dose / mean_counts)
    return sensitivities[:, None, None] * atoms, sensitivities


def haadf_model(counts, elements, sensitivities, forward, gamma, gain):
    """HAADF signal of the object, without offset and noise, and the weights that give it.

    Parameters
    ----------
    counts : numpy.ndarray of shape (E, R, C)
        Expected counts.
    elements : sequence of str
        Chemical symbols.
    sensitivities : numpy.ndarray of shape (E,)
        Counts per atom.
    forward : str
        ``"linear"``: an atom scatters as ``Z**gamma``. ``"power"``: the signal is the sum over
        elements of ``(Z * atoms)**gamma``.
    gamma : float
        Exponent.
    gain : float
        Mean of the result over the field.

    Returns
    -------
    signal : numpy.ndarray of shape (R, C)
    weights : numpy.ndarray of shape (E,)
        ``signal`` is ``sum_i weights_i counts_i``, or ``sum_i (weights_i counts_i)**gamma``.
    """
    numbers = np.array([atomic_number(element) for element in elements], dtype=float)
    if forward == "linear":
        weights = numbers**gamma / sensitivities
        weights *= gain / np.tensordot(weights, counts, axes=1).mean()
        return np.tensordot(weights, counts, axes=1), weights
    weights = numbers / sensitivities
    columns = weights[:, None, None]
    weights = weights * (gain / ((columns * counts) ** gamma).sum(axis=0).mean()) ** (1 / gamma)
    return ((weights[:, None, None] * counts) ** gamma).sum(axis=0), weights


def record(
    atoms,
    elements,
    *,
    title,
    pixel_size,
    dose,
    haadf_snr,
    haadf_offset,
    haadf_gain,
    gamma,
    forward,
    rng_seeds,
    spectrum_image,
):
    """Record a specimen: draw its counts and its HAADF image and wrap them into signals.

    Parameters
    ----------
    atoms : numpy.ndarray of shape (E, R, C)
        Atoms per pixel.
    elements : sequence of str
        Chemical symbols.
    title : str
        Title of the signals.
    rng_seeds : sequence of numpy.random.SeedSequence
        Three: for the counts, the HAADF image and the rest of the spectrum. Each has its own
        stream, so that the noise of one does not depend on what is asked of another.
    pixel_size, dose, haadf_snr, haadf_offset, haadf_gain, gamma, forward, spectrum_image
        As in the public functions of this folder; see `core_shell_particles`.

    Returns
    -------
    Specimen
    """
    counts_rng, haadf_rng, spectrum_rng = (np.random.default_rng(seed) for seed in rng_seeds)
    truth, sensitivities = expected_counts(atoms, elements, dose)
    signal, weights = haadf_model(truth, elements, sensitivities, forward, gamma, haadf_gain)
    noise = haadf_gain / haadf_snr
    haadf = haadf_offset + signal + noise * haadf_rng.standard_normal(signal.shape)
    counts = counts_rng.poisson(truth)

    spectrum = line_shares = background = None
    if spectrum_image:
        from .spectrum import simulate_spectrum_image

        scattering = np.tensordot(
            [atomic_number(element) ** 2.0 for element in elements], atoms, axes=1
        )
        spectrum, line_shares, background = simulate_spectrum_image(
            truth, counts, scattering, mapped_lines(elements), pixel_size, title, spectrum_rng
        )

    return Specimen(
        truth=wrap_maps(truth, elements, pixel_size, f"{title}, expected counts"),
        maps=wrap_maps(counts, elements, pixel_size, f"{title}, counts"),
        haadf=wrap_image(haadf, pixel_size, f"{title}, HAADF"),
        sensitivities=dict(zip(elements, sensitivities.tolist())),
        weights=weights,
        haadf_offset=float(haadf_offset),
        haadf_noise=float(noise),
        gamma=float(gamma),
        forward=forward,
        spectrum=spectrum,
        line_shares=line_shares,
        background=background,
    )


def mapped_lines(elements):
    """X-ray line mapped for each element."""
    return [MAPPED_LINES.get(element, f"{element}_Ka") for element in elements]


def wrap_image(data, pixel_size, title):
    """Signal2D in nanometres, 32 bit."""
    from hyperspy.signals import Signal2D

    image = Signal2D(np.asarray(data, dtype=np.float32))
    for axis, name in zip(image.axes_manager.signal_axes, ("x", "y")):
        axis.name, axis.scale, axis.units = name, pixel_size, "nm"
    image.metadata.General.title = title
    image.metadata.set_item("Acquisition_instrument.TEM.beam_energy", 200.0)
    return image


def wrap_maps(data, elements, pixel_size, title):
    """ElementMaps in nanometres, 32 bit (whole numbers stay whole up to 16 million)."""
    from ..signals.element_maps import element_maps

    images = {}
    for element, line, image in zip(elements, mapped_lines(elements), data):
        images[element] = wrap_image(image, pixel_size, title)
        images[element].metadata.Signal.quantity = "X-rays (Counts)"
        images[element].metadata.set_item("Sample.elements", [element])
        images[element].metadata.set_item("Sample.xray_lines", [line])
    maps = element_maps(images)
    maps.metadata.General.title = title
    return maps


def check_settings(shape, pixel_size, dose, haadf_snr, haadf_offset, haadf_gain, gamma, forward):
    """Raise ValueError that names the first setting no specimen can be recorded with."""
    if len(shape) != 2 or any(int(size) != size or size < 1 for size in shape):
        raise ValueError(f"shape must be two whole numbers (rows, columns), not {shape!r}.")
    positive = {
        "pixel_size": pixel_size,
        "dose": dose,
        "haadf_snr": haadf_snr,
        "haadf_gain": haadf_gain,
    }
    for name, value in positive.items():
        finite = np.isfinite(value) or (name == "haadf_snr" and value == np.inf)
        if not (finite and value > 0):
            raise ValueError(f"{name} must be a positive number, not {value!r}.")
    if not np.isfinite(haadf_offset):
        raise ValueError(f"haadf_offset must be a finite number, not {haadf_offset!r}.")
    if not 1 <= gamma <= 2.5:
        raise ValueError(f"gamma must lie between 1 and 2.5, not at {gamma!r}.")
    if forward not in FORWARD_MODELS:
        raise ValueError(f"forward must be one of {FORWARD_MODELS}, not {forward!r}.")
