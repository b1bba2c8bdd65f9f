"""A Ga2O3 film of varying thickness: one composition everywhere."""

import numpy as np
from scipy.ndimage import gaussian_filter

from .specimen import check_settings, record

ELEMENTS = ("Ga", "O")

# Formula units per cubic nanometre, from 5.95 g/cm3 and 187.44 g/mol.
GA2O3_PER_NM3 = 19.12


def gallium_oxide_film(
    shape=(128, 128),
    *,
    dose=1.0,
    haadf_snr=20.0,
    haadf_offset=0.25,
    haadf_gain=1.0,
    gamma=1.7,
    forward="linear",
    pixel_size=0.5,
    thickness=20.0,
    roughness=0.3,
    seed=0,
    spectrum_image=False,
):
    """Simulate a film of Ga2O3 whose thickness varies: 40 at% Ga at every pixel.

    A film like this shows whether fused maps keep the stoichiometry, with
    ``forward="power"`` as Schwartz et al. simulate it. The thickness is a smooth random
    landscape with a few terraces, positive everywhere.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    dose : float
        Expected counts per pixel: the mean of the truth over all pixels and all elements. It
        scales the truth and changes nothing else of it.
    haadf_snr : float
        Mean signal of the object over the field (offset excluded) divided by the standard
        deviation of the noise, which is Gaussian and the same at every pixel. ``numpy.inf``
        for no noise.
    haadf_offset : float
        HAADF intensity of vacuum, in the units of the image.
    haadf_gain : float
        Mean signal of the object over the field, offset excluded, in the units of the image.
    gamma : float
        Exponent of the atomic number, between 1 and 2.5.
    forward : {"linear", "power"}
        How atoms make HAADF signal: ``"linear"`` as ``sum_i atoms_i Z_i**gamma``; ``"power"`` as
        ``sum_i (atoms_i Z_i)**gamma``.
    pixel_size : float
        Pixel size in nm.
    thickness : float
        Typical thickness in nm (its geometric mean).
    roughness : float
        Standard deviation of the logarithm of the thickness. 0 for a flat film.
    seed : int
        Seed of everything drawn at random. The same seed gives the same film, whatever the dose.
    spectrum_image : bool
        If True, simulate a whole EDX spectrum image too.

    Returns
    -------
    Specimen
        Elements Ga, O.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    References
    ----------
    J. Schwartz et al., npj Computational Materials 8, 16 (2022), figure 5.

    Examples
    --------
    >>> import hyperspy_fusedmm as fmm
    >>> specimen = fmm.data.gallium_oxide_film(shape=(64, 64), forward="power")
    >>> specimen.elements
    ['Ga', 'O']
    """
    check_settings(shape, pixel_size, dose, haadf_snr, haadf_offset, haadf_gain, gamma, forward)
    if not (np.isfinite(thickness) and thickness > 0):
        raise ValueError(f"thickness must be a positive number in nm, not {thickness!r}.")
    if not (np.isfinite(roughness) and roughness >= 0):
        raise ValueError(f"roughness must be 0 or a positive number, not {roughness!r}.")
    geometry_seed, *rng_seeds = np.random.SeedSequence(seed).spawn(4)
    landscape = film_landscape(shape, np.random.default_rng(geometry_seed))
    molecules = GA2O3_PER_NM3 * pixel_size**2 * thickness * np.exp(roughness * landscape)
    return record(
        np.stack([2 * molecules, 3 * molecules]),
        ELEMENTS,
        title="Gallium oxide film",
        pixel_size=pixel_size,
        dose=dose,
        haadf_snr=haadf_snr,
        haadf_offset=haadf_offset,
        haadf_gain=haadf_gain,
        gamma=gamma,
        forward=forward,
        rng_seeds=rng_seeds,
        spectrum_image=spectrum_image,
    )


def film_landscape(shape, rng):
    """Smooth random landscape with terraces, of mean 0 and standard deviation 1."""
    scale = min(shape) / 12
    smooth = _standardise(gaussian_filter(rng.standard_normal(shape), scale, mode="reflect"))
    levels = _standardise(gaussian_filter(rng.standard_normal(shape), 2 * scale, mode="reflect"))
    terraces = np.digitize(levels, (-0.7, 0.7))
    return _standardise(smooth + terraces)


def _standardise(values):
    centred = values - values.mean()
    spread = centred.std()
    # A field of one pixel has no landscape.
    return centred / spread if spread > 0 else centred
