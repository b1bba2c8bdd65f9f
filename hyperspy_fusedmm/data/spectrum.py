"""EDX spectrum images: every photon of the maps, and those that come with them.

A detector turns a photon of energy E into a count in a channel near E. The photons
of the mapped lines are the counts of the element maps, so that integrating the
spectrum image over a line gives those counts back; the other lines of each element
and the bremsstrahlung are drawn in addition.
"""

import numpy as np
from scipy.special import ndtr

BEAM_ENERGY = 200.0  # keV
RESOLUTION_MN_KA = 130.0  # eV, full width at half maximum
CHANNEL_WIDTH = 0.01  # keV
MN_KA = 5898.7  # eV

# Photons of the main line of another shell for one photon of the mapped line. True ratios lie
# between 0.2 and 2, depending on the element and the detector.
OTHER_SHELL = 0.5

# Bremsstrahlung photons in the spectrum for one photon of the mapped lines, field average.
BREMSSTRAHLUNG = 0.25

# Low-energy photons are absorbed on their way to the detector: half of them at this energy.
ABSORPTION_EDGE = 0.3  # keV

# Width of the integration window in units of the FWHM, as in eXSpy's `get_lines_intensity`.
WINDOW_WIDTH = 2.0


def simulate_spectrum_image(truth, counts, scattering, lines, pixel_size, title, rng):
    """Simulate an EDX spectrum image that holds given counts.

    Parameters
    ----------
    truth : numpy.ndarray of shape (E, R, C)
        Expected counts of the mapped lines.
    counts : numpy.ndarray of shape (E, R, C)
        Counts of the mapped lines, drawn with the mean `truth`.
    scattering : numpy.ndarray of shape (R, C)
        What the bremsstrahlung is proportional to: atoms times Z**2.
    lines : list of str
        Mapped line of each element, like ``"Co_Ka"``.
    pixel_size : float
        Pixel size in nm.
    title : str
        Title of the signal.
    rng : numpy.random.Generator
        Source of everything drawn.

    Returns
    -------
    spectrum : exspy.signals.EDSTEMSpectrum
        ``(C, R | energy)``, whole numbers, with what eXSpy needs to know in its metadata.
    line_shares : numpy.ndarray of shape (E,)
        Counts of an element in the window of its line, for one photon of the line.
    background : numpy.ndarray of shape (E, R, C)
        Expected counts in the window of each line that are not of its element.
    """
    energies = energy_channels(lines)
    line_profiles = np.stack([line_profile(line, energies) for line in lines])
    other_profiles = np.stack([other_lines_profile(line, energies) for line in lines])
    continuum = bremsstrahlung_profile(energies)
    continuum_counts = scattering * (BREMSSTRAHLUNG * truth.sum(axis=0).mean() / scattering.mean())

    data = draw_spectra(
        counts, truth, continuum_counts, line_profiles, other_profiles, continuum, rng
    )
    spectrum = wrap_spectrum(data, energies, lines, pixel_size, title)
    line_shares, background = expected_in_windows(
        spectrum, lines, truth, continuum_counts, line_profiles + other_profiles, continuum
    )
    return spectrum, line_shares, background


def energy_channels(lines):
    """Centres of the channels in keV: to 10.24 keV, or beyond the shells that are mapped."""
    last = max(
        properties["energy (keV)"]
        for element, mapped in (line.split("_") for line in lines)
        for name, properties in element_lines(element).items()
        if name[0] == mapped[0]
    )
    return CHANNEL_WIDTH * np.arange(max(1024, int(np.ceil((last + 0.4) / CHANNEL_WIDTH))))


def element_lines(element):
    """X-ray lines of an element from eXSpy's table: energy in keV and weight in its family."""
    from exspy.material import elements

    return elements[element].Atomic_properties.Xray_lines.as_dictionary()


def resolution(energy):
    """Full width at half maximum of a line in keV.

    C. E. Fiori and D. E. Newbury, Scanning Electron Microscopy 1, 401 (1978), as used by eXSpy.
    """
    return np.sqrt(2.5 * (1e3 * energy - MN_KA) + RESOLUTION_MN_KA**2) / 1e3


def gaussian_profile(energy, energies):
    """Probability of each channel for a photon of a given energy in keV."""
    sigma = resolution(energy) / np.sqrt(8 * np.log(2))
    step = energies[1] - energies[0]
    edges = np.append(energies - step / 2, energies[-1] + step / 2)
    return np.diff(ndtr((edges - energy) / sigma))


def line_profile(line, energies):
    """Probability of each channel for a photon of the mapped line."""
    element, name = line.split("_")
    return gaussian_profile(element_lines(element)[name]["energy (keV)"], energies)


def other_lines_profile(line, energies):
    """Expected counts per channel in all other lines of an element, per photon of the mapped line.

    Lines of the same shell come with their weights; other shells with `OTHER_SHELL`.
    """
    element, mapped = line.split("_")
    profile = np.zeros(energies.size)
    for name, properties in element_lines(element).items():
        if name == mapped or properties["energy (keV)"] > BEAM_ENERGY:
            continue
        intensity = properties["weight"] * (1.0 if name[0] == mapped[0] else OTHER_SHELL)
        profile += intensity * gaussian_profile(properties["energy (keV)"], energies)
    return profile


def bremsstrahlung_profile(energies):
    """Probability of each channel for a bremsstrahlung photon.

    Kramers' law, ``(E0 - E) / E``, times the transmission of what lies before the detector.
    """
    inside = np.maximum(energies, energies[1] / 2)
    transmission = 0.5 ** ((ABSORPTION_EDGE / inside) ** 3)
    spectrum = (BEAM_ENERGY - inside) / inside * transmission
    return spectrum / spectrum.sum()


def draw_spectra(counts, truth, continuum_counts, line_profiles, other_profiles, continuum, rng):
    """Draw the spectra row by row, to hold one row of them in 64 bit at a time.

    Returns
    -------
    numpy.ndarray of shape (R, C, channels)
        16 bit, or 32 bit where a channel holds more than 65535 counts.
    """
    n_elements, n_rows, n_columns = counts.shape
    n_channels = continuum.size
    others = other_profiles.sum(axis=1)
    # Oxygen has one line only: no other photons, whatever their distribution.
    other_shapes = other_profiles / np.where(others > 0, others, 1)[:, None]
    profiles = np.concatenate([line_profiles, other_shapes, continuum[None]])
    data = np.zeros((n_rows, n_columns, n_channels), dtype=np.uint16)
    for row in range(n_rows):
        photons = np.concatenate(
            [
                counts[:, row],
                rng.poisson(others[:, None] * truth[:, row]),
                rng.poisson(continuum_counts[None, row]),
            ]
        )
        spectra = draw_row(photons, profiles, rng)
        if data.dtype == np.uint16 and spectra.max() > np.iinfo(np.uint16).max:
            data = data.astype(np.uint32)
        data[row] = spectra
    return data


def draw_row(photons, profiles, rng):
    """Sort the photons of one row of pixels into channels.

    Parameters
    ----------
    photons : numpy.ndarray of shape (P, C)
        Number of photons of each of P kinds at each pixel.
    profiles : numpy.ndarray of shape (P, channels)
        Probability of the channels for each kind. What the sum lacks to 1 is the probability
        that the photon falls outside the spectrum.

    Returns
    -------
    numpy.ndarray of shape (C, channels)
    """
    spectra = np.zeros((photons.shape[1], profiles.shape[1]), dtype=np.int64)
    for number, profile in zip(photons, profiles):
        # The same distribution both ways: by photon where they are few, else by channel.
        draw = _draw_photons if number.sum() < spectra.size else _draw_channels
        spectra += draw(number, profile, rng)
    return spectra


def _draw_photons(number, profile, rng):
    pixel = np.repeat(np.arange(number.size), number)
    channel = np.searchsorted(np.cumsum(profile), rng.random(pixel.size), side="right")
    seen = channel < profile.size
    counts = np.bincount(
        pixel[seen] * profile.size + channel[seen], minlength=number.size * profile.size
    )
    return counts.reshape(number.size, profile.size)


def _draw_channels(number, profile, rng):
    outside = max(1 - profile.sum(), 0)
    return rng.multinomial(number, np.append(profile, outside))[:, :-1]


def wrap_spectrum(data, energies, lines, pixel_size, title):
    """EDSTEMSpectrum with axes, microscope, elements and lines."""
    from exspy.signals import EDSTEMSpectrum

    spectrum = EDSTEMSpectrum(data)
    energy = spectrum.axes_manager.signal_axes[0]
    energy.name, energy.scale, energy.offset, energy.units = "Energy", CHANNEL_WIDTH, 0.0, "keV"
    for axis, name in zip(spectrum.axes_manager.navigation_axes, ("x", "y")):
        axis.name, axis.scale, axis.units = name, pixel_size, "nm"
    spectrum.metadata.General.title = title
    spectrum.metadata.Signal.quantity = "X-rays (Counts)"
    spectrum.set_microscope_parameters(
        beam_energy=BEAM_ENERGY,
        energy_resolution_MnKa=RESOLUTION_MN_KA,
        live_time=1.0,
        tilt_stage=0.0,
        azimuth_angle=0.0,
        elevation_angle=18.0,
    )
    # Not by `set_elements` and `set_lines`: they sort, and the maps that eXSpy extracts would come
    # in another order than those of the truth.
    spectrum.metadata.set_item("Sample.elements", [line.split("_")[0] for line in lines])
    spectrum.metadata.set_item("Sample.xray_lines", list(lines))
    return spectrum


def expected_in_windows(spectrum, lines, truth, continuum_counts, element_profiles, continuum):
    """What is expected in the integration window of each mapped line.

    Parameters
    ----------
    element_profiles : numpy.ndarray of shape (E, channels)
        Expected counts per channel of all lines of an element, per photon of its mapped line.

    Returns
    -------
    line_shares : numpy.ndarray of shape (E,)
        Counts of the element itself per photon of its mapped line: less than 1, as the window
        cuts off the tails of the line, unless other lines of the element lie in it.
    background : numpy.ndarray of shape (E, R, C)
        Counts of the other elements and of the bremsstrahlung.
    """
    windows = spectrum.estimate_integration_windows(WINDOW_WIDTH, xray_lines=lines)
    axis = spectrum.axes_manager.signal_axes[0]
    line_shares = np.empty(len(lines))
    background = np.empty(truth.shape, dtype=np.float32)
    for i, window in enumerate(windows):
        channels = slice(*axis.value2index(np.asarray(window, dtype=float)))
        per_photon = element_profiles[:, channels].sum(axis=1)
        line_shares[i] = per_photon[i]
        per_photon[i] = 0
        background[i] = np.tensordot(per_photon, truth, axes=1)
        background[i] += continuum[channels].sum() * continuum_counts
    return line_shares, background
