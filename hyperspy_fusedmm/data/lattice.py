"""A perovskite lattice seen down its columns, like DyScO3 at atomic resolution."""

import numpy as np

from .specimen import check_settings, record

ELEMENTS = ("Dy", "Sc", "O")

LATTICE_CONSTANT = 0.395  # nm, pseudo-cubic DyScO3

# Sites in the pseudo-cubic cell (row, column) and the elements in one cell of each column.
SITES = (
    ((0.0, 0.0), {"Dy": 1}),
    ((0.5, 0.5), {"Sc": 1, "O": 1}),
    ((0.5, 0.0), {"O": 1}),
    ((0.0, 0.5), {"O": 1}),
)

# Dy sits off its site by this fraction of the cell, alternately right and left from row to row,
# as the antiparallel displacements of orthorhombic DyScO3.
DY_DISPLACEMENT = 0.05


def perovskite_lattice(
    shape=(128, 128),
    *,
    dose=1.0,
    haadf_snr=20.0,
    haadf_offset=0.25,
    haadf_gain=1.0,
    gamma=1.7,
    forward="linear",
    pixel_size=0.025,
    thickness=20.0,
    column_width=0.05,
    seed=0,
    spectrum_image=False,
):
    """Simulate a DyScO3-like lattice of atomic columns: Dy, Sc with O, and O.

    Every column is a Gaussian that holds as many atoms as the thickness has unit cells. The
    specimen is a wedge: the thickness grows by half from one corner of the field to the
    opposite one. HAADF signal and counts are both incoherent sums over the same atoms:
    channelling and delocalisation are not simulated, only the width that they, the probe
    and the vibration of the atoms give a column.

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
        Pixel size in nm; the pseudo-cubic cell measures 0.395 nm.
    thickness : float
        Mean thickness in nm.
    column_width : float
        Standard deviation of a column in nm.
    seed : int
        Seed of everything drawn at random: the place of the lattice in the field and the noise.
    spectrum_image : bool
        If True, simulate a whole EDX spectrum image too.

    Returns
    -------
    Specimen
        Elements Dy, Sc, O.

    Raises
    ------
    ValueError
        If a setting is out of its range.

    Examples
    --------
    >>> import hyperspy_fusedmm as fmm
    >>> specimen = fmm.data.perovskite_lattice(shape=(64, 64), dose=0.5)
    >>> specimen.elements
    ['Dy', 'Sc', 'O']
    """
    check_settings(shape, pixel_size, dose, haadf_snr, haadf_offset, haadf_gain, gamma, forward)
    for name, value in {"thickness": thickness, "column_width": column_width}.items():
        if not (np.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive number in nm, not {value!r}.")
    geometry_seed, *rng_seeds = np.random.SeedSequence(seed).spawn(4)
    origin = np.random.default_rng(geometry_seed).uniform(0, LATTICE_CONSTANT, 2)
    return record(
        lattice_atoms(shape, pixel_size, origin, thickness, column_width),
        ELEMENTS,
        title="Perovskite lattice",
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


def lattice_atoms(shape, pixel_size, origin, thickness, column_width):
    """Atoms per pixel of Dy, Sc and O.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns.
    pixel_size, thickness, column_width
        In nm; see `perovskite_lattice`.
    origin : sequence of float
        Row and column of one Dy site in nm.

    Returns
    -------
    numpy.ndarray of shape (3, R, C)
    """
    atoms = {element: np.zeros(shape) for element in ELEMENTS}
    for site, content in SITES:
        density = columns_density(shape, pixel_size, origin, site, column_width, "Dy" in content)
        for element, number in content.items():
            atoms[element] += number * density
    cells = wedge(shape, thickness) / LATTICE_CONSTANT
    return np.stack([atoms[element] for element in ELEMENTS]) * cells * pixel_size**2


def columns_density(shape, pixel_size, origin, site, column_width, displaced):
    """Columns of one site, one atom each, as a density per square nanometre.

    Two-dimensional Gaussians are products of one-dimensional ones, so a lattice of them is the
    outer product of two sums. Displaced columns alternate from row to row of cells: two
    lattices of twice the cell.
    """
    rows, columns = (np.arange(size) * pixel_size for size in shape)
    first_row, first_column = np.asarray(origin) + np.asarray(site) * LATTICE_CONSTANT
    if not displaced:
        return np.outer(
            gaussian_comb(rows, first_row, LATTICE_CONSTANT, column_width),
            gaussian_comb(columns, first_column, LATTICE_CONSTANT, column_width),
        )
    density = np.zeros(shape)
    for parity, sign in enumerate((1, -1)):
        density += np.outer(
            gaussian_comb(
                rows, first_row + parity * LATTICE_CONSTANT, 2 * LATTICE_CONSTANT, column_width
            ),
            gaussian_comb(
                columns,
                first_column + sign * DY_DISPLACEMENT * LATTICE_CONSTANT,
                LATTICE_CONSTANT,
                column_width,
            ),
        )
    return density


def gaussian_comb(positions, first, period, width):
    """Sum of Gaussians of unit area, one every `period`, at `positions`."""
    # Only the peaks next to a position count: those farther than 9 widths add less than 1e-17.
    reach = int(np.ceil(9 * width / period))
    distance = np.mod(positions - first + period / 2, period) - period / 2
    peaks = np.arange(-reach, reach + 1) * period
    heights = np.exp(-0.5 * ((distance[:, None] - peaks) / width) ** 2)
    return heights.sum(axis=1) / (np.sqrt(2 * np.pi) * width)


def wedge(shape, thickness):
    """Thickness that grows from 0.8 to 1.2 of its mean along the diagonal of the field."""
    rows, columns = np.ogrid[: shape[0], : shape[1]]
    diagonal = rows / max(shape[0] - 1, 1) + columns / max(shape[1] - 1, 1)
    return thickness * (0.8 + 0.2 * diagonal)
