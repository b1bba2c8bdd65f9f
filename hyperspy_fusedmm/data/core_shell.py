"""Core-shell particles: CoS cores in CoO shells, seen in projection."""

import numpy as np

from .specimen import check_settings, record

ELEMENTS = ("Co", "S", "O")

# Formula units per cubic nanometre, from the densities 5.45 g/cm3 (CoS) and 6.44 g/cm3 (CoO)
# and the molar masses 91.00 and 74.93 g/mol.
COS_PER_NM3 = 36.07
COO_PER_NM3 = 51.76


def core_shell_particles(
    shape=(128, 128),
    *,
    dose=1.0,
    haadf_snr=20.0,
    haadf_offset=0.25,
    haadf_gain=1.0,
    gamma=1.7,
    forward="linear",
    pixel_size=0.5,
    n_particles=12,
    radius=None,
    seed=0,
    spectrum_image=False,
):
    """Simulate spherical particles with a CoS core and a CoO shell on vacuum.

    The particles differ in size and in the thickness of their shell, and overlap in
    projection. Every pixel holds the atoms on the line through its centre, from the
    exact chord lengths of the spheres.

    There is one Co atom for every S and every O atom, so in atoms Co = S + O at every
    pixel: the three maps are collinear, and no fit can tell from them how much each
    element adds to the HAADF image. This is so by design; it is what many compounds do.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    dose : float
        Expected counts per pixel: the mean of the truth over all pixels of the field, vacuum
        included, and over all elements. It scales the truth and changes nothing else of it.
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
    n_particles : int
        Number of particles.
    radius : tuple of float, optional
        Smallest and largest outer radius in nm. By default 0.06 and 0.18 of the shorter side
        of the field.
    seed : int
        Seed of everything drawn at random. The same seed gives the same specimen, whatever the
        dose, and the same noise.
    spectrum_image : bool
        If True, simulate a whole EDX spectrum image too (35 MB at 128 x 128).

    Returns
    -------
    Specimen
        Elements Co, S, O.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> import hyperspy_fusedmm as fmm
    >>> specimen = fmm.data.core_shell_particles(shape=(64, 64), dose=2)
    >>> specimen.elements
    ['Co', 'S', 'O']
    >>> fused = specimen.maps.fuse(specimen.haadf)
    """
    check_settings(shape, pixel_size, dose, haadf_snr, haadf_offset, haadf_gain, gamma, forward)
    radius = _check_particles(shape, pixel_size, n_particles, radius)
    geometry_seed, *rng_seeds = np.random.SeedSequence(seed).spawn(4)
    centres, outer, core = place_particles(
        shape, pixel_size, n_particles, radius, np.random.default_rng(geometry_seed)
    )
    return record(
        particle_atoms(shape, pixel_size, centres, outer, core),
        ELEMENTS,
        title="Core-shell particles",
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


def particle_atoms(shape, pixel_size, centres, outer, core):
    """Atoms per pixel of Co, S and O in concentric core-shell particles.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    pixel_size : float
        Pixel size in nm.
    centres : array_like of shape (N, 2)
        Row and column of the centres in nm; the centre of the first pixel is at (0, 0).
    outer, core : array_like of shape (N,)
        Radii of the particles and of their cores in nm.

    Returns
    -------
    numpy.ndarray of shape (3, R, C)
    """
    core_thickness = spheres_thickness(shape, pixel_size, centres, core)
    shell_thickness = spheres_thickness(shape, pixel_size, centres, outer) - core_thickness
    area = pixel_size**2
    sulphur = COS_PER_NM3 * area * core_thickness
    # The difference of two chords can fall below zero by rounding only.
    oxygen = COO_PER_NM3 * area * np.maximum(shell_thickness, 0)
    return np.stack([sulphur + oxygen, sulphur, oxygen])


def spheres_thickness(shape, pixel_size, centres, radii):
    """Total thickness of spheres along the beam at the centre of every pixel.

    A sphere of radius r is ``2 sqrt(r**2 - d**2)`` thick at the distance d from its axis.

    Parameters
    ----------
    shape, pixel_size, centres
        As in `particle_atoms`.
    radii : array_like of shape (N,)
        Radii in nm.

    Returns
    -------
    numpy.ndarray of shape (R, C)
        Thickness in nm; where spheres overlap in projection it is their sum.
    """
    thickness = np.zeros(shape)
    for centre, radius in zip(np.asarray(centres, dtype=float), radii):
        # Only the square around the sphere is touched: large fields hold many small particles.
        first = np.maximum(np.floor((centre - radius) / pixel_size), 0).astype(int)
        last = np.maximum(np.ceil((centre + radius) / pixel_size), 0).astype(int)
        square = np.s_[first[0] : last[0] + 1, first[1] : last[1] + 1]
        rows, columns = np.ogrid[: shape[0], : shape[1]]
        rows = rows[square[0]] * pixel_size - centre[0]
        columns = columns[:, square[1]] * pixel_size - centre[1]
        thickness[square] += 2 * np.sqrt(np.maximum(radius**2 - rows**2 - columns**2, 0))
    return thickness


def place_particles(shape, pixel_size, n_particles, radius, rng):
    """Sizes and places of the particles, the largest placed first.

    Places are uniform in the field, but those that would hide most of an earlier particle
    are drawn again, a few times: particles overlap at their rims as on a support film.

    Returns
    -------
    centres : numpy.ndarray of shape (N, 2)
        Row and column in nm.
    outer, core : numpy.ndarray of shape (N,)
        Radii in nm. The core takes 0.45 to 0.75 of the radius.
    """
    outer = np.sort(rng.uniform(*radius, n_particles))[::-1]
    core = outer * rng.uniform(0.45, 0.75, n_particles)
    field = (np.array(shape) - 1) * pixel_size
    centres = np.empty((n_particles, 2))
    for i in range(n_particles):
        candidates = rng.uniform(0, 1, (40, 2)) * field
        distance = np.linalg.norm(candidates[:, None] - centres[None, :i], axis=2)
        clearance = (distance / (outer[:i] + outer[i])).min(axis=1, initial=np.inf)
        acceptable = np.flatnonzero(clearance > 0.65)
        centres[i] = candidates[acceptable[0] if acceptable.size else clearance.argmax()]
    return centres, outer, core


def _check_particles(shape, pixel_size, n_particles, radius):
    if int(n_particles) != n_particles or n_particles < 1:
        raise ValueError(f"n_particles must be a whole number of at least 1, not {n_particles!r}.")
    if radius is None:
        side = min(shape) * pixel_size
        return 0.06 * side, 0.18 * side
    smallest, largest = radius
    if not (0 < smallest <= largest and np.isfinite(largest)):
        raise ValueError(
            f"radius must be the smallest and the largest radius in nm, both positive, not {radius!r}."
        )
    return smallest, largest
