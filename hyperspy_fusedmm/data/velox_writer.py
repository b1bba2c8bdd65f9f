"""Record simulated specimens as Velox files of any size."""

import os

import numba
import numpy as np

from ..signals.progress import is_shown
from .velox_layout import CHANNEL_WIDTH, N_CHANNELS, NEXT_PIXEL, write_velox_layout

# Events drawn at a time, roughly: what is held in memory does not depend on the size of the file.
EVENTS_PER_BLOCK = 2_000_000
# Brightest pixel of one HAADF frame, in a type that ends at 65535.
BRIGHTEST = 40000


def write_velox(
    path,
    specimen,
    *,
    n_frames=1,
    n_detectors=4,
    n_events=None,
    compression=None,
    seed=0,
    show_progressbar=None,
):
    """Write a simulated specimen as a Velox EMD file with event streams.

    X-rays of all lines of the elements and bremsstrahlung are drawn anew, pixel by
    pixel and frame by frame, from the specimen's ``truth``; they are not those of its
    ``maps``. The HAADF frames share the specimen's image, noise included, so that
    their sum is that image, scaled and rounded.

    Parameters
    ----------
    path : str or os.PathLike
        File to write, replaced only once the new one is complete.
    specimen : Specimen
        For example from :func:`hyperspy_fusedmm.data.core_shell_particles`.
    n_frames : int
        Number of frames the counts are spread over.
    n_detectors : int
        Number of detectors the counts are spread over, with a stream each.
    n_events : float, optional
        Expected number of X-rays in the file. By default the mapped lines have the
        specimen's counts.
    compression : str, optional
        HDF5 filter for the streams, for example ``"gzip"``. Velox uses none.
    seed : int
        Seed of the X-rays.
    show_progressbar : bool, optional
        By default as set in HyperSpy's preferences.

    Returns
    -------
    str
        The path.

    Raises
    ------
    ValueError
        If a number is not positive.

    Examples
    --------
    >>> import os, tempfile
    >>> import hyperspy_fusedmm as fmm
    >>> specimen = fmm.data.core_shell_particles(shape=(32, 32), dose=2)
    >>> path = os.path.join(tempfile.mkdtemp(), "particles.emd")
    >>> path = fmm.data.write_velox(path, specimen, n_frames=3)
    >>> maps, haadf = fmm.load_velox(path)
    >>> maps.elements
    ['Co', 'S', 'O']
    """
    for name, value in (("n_frames", n_frames), ("n_detectors", n_detectors)):
        if int(value) != value or value < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, not {value!r}.")
    if n_events is not None and not n_events > 0:
        raise ValueError(f"n_events must be a positive number, not {n_events!r}.")
    rates, profiles = _photon_rates(specimen)
    if n_events is not None:
        rates *= n_events / rates.sum()
    rates /= n_frames * n_detectors
    tables = _alias_tables(profiles)
    frames = _split_into_frames(np.asarray(specimen.haadf.data, dtype=float), n_frames)
    streams = {
        f"SuperXG2{k + 1}": _draw_stream(rates, tables, n_frames, [seed, k])
        for k in range(n_detectors)
    }
    axis = specimen.haadf.axes_manager.signal_axes[0]
    with _progressbar(show_progressbar, n_detectors * n_frames, "Writing frames") as bar:
        write_velox_layout(
            path,
            streams,
            {"HAADF": frames},
            elements=specimen.elements,
            pixel_size=axis.scale * 1e-9,
            compression=compression,
            progress=bar.update,
        )
    return os.fspath(path)


def _photon_rates(specimen):
    """Expected photons by kind and pixel, and the channels each kind falls into.

    Returns
    -------
    rates : numpy.ndarray of shape (K, R * C)
    profiles : numpy.ndarray of shape (K, channels)
        Probabilities; every row sums to 1.
    """
    from .specimen import atomic_number
    from .spectrum import (
        BREMSSTRAHLUNG,
        bremsstrahlung_profile,
        line_profile,
        other_lines_profile,
    )

    truth = np.asarray(specimen.truth.data, dtype=float)
    truth = truth.reshape(truth.shape[0], -1)
    lines = specimen.truth.metadata.Sample.xray_lines
    energies = CHANNEL_WIDTH * np.arange(N_CHANNELS)
    photons = [line_profile(line, energies) + other_lines_profile(line, energies) for line in lines]
    scattering = sum(
        atomic_number(element) ** 2 * counts / sensitivity
        for (element, sensitivity), counts in zip(specimen.sensitivities.items(), truth)
    )
    continuum = scattering * (BREMSSTRAHLUNG * truth.sum() / scattering.sum())
    profiles = np.stack([*photons, bremsstrahlung_profile(energies)])
    seen = profiles.sum(axis=1, keepdims=True)
    return np.concatenate([truth, continuum[None]]) * seen, profiles / seen


def _split_into_frames(image, n_frames):
    """Whole-numbered frames that sum to the scaled and rounded image."""
    brightest = max(float(image.max()), np.finfo(float).tiny)
    total = np.rint(np.maximum(image, 0) * (BRIGHTEST * n_frames / brightest)).astype(np.int64)
    frames = np.empty((n_frames, *image.shape), dtype=np.uint16)
    for k in range(n_frames):
        frames[k] = (k + 1) * total // n_frames - k * total // n_frames
    return frames


def _draw_stream(rates, tables, n_frames, seed):
    """Yield the frames of one detector, each in blocks of pixels."""
    rng = np.random.default_rng(seed)
    n_pixels = rates.shape[1]
    total = rates.sum(axis=0)
    cumulative = np.ascontiguousarray(
        np.cumsum(rates / np.where(total > 0, total, 1), axis=0).T, dtype=np.float32
    )
    n_blocks = int(np.ceil((total.sum() + n_pixels) / EVENTS_PER_BLOCK))
    edges = np.linspace(0, n_pixels, n_blocks + 1).astype(int)
    for _ in range(n_frames):
        yield (
            _draw_events(rng.poisson(total[a:b]), cumulative[a:b], *tables, rng)
            for a, b in zip(edges[:-1], edges[1:])
        )


def _alias_tables(profiles):
    """Tables to draw from each distribution in constant time.

    A. J. Walker, ACM Trans. Math. Softw. 3, 253 (1977).
    """
    n_kinds, n_channels = profiles.shape
    keep = np.ones((n_kinds, n_channels), dtype=np.float32)
    alias = np.tile(np.arange(n_channels, dtype=np.uint16), (n_kinds, 1))
    for kind in range(n_kinds):
        share = profiles[kind] * n_channels
        poor = list(np.flatnonzero(share < 1))
        rich = list(np.flatnonzero(share >= 1))
        while poor and rich:
            taker, giver = poor.pop(), rich[-1]
            keep[kind, taker], alias[kind, taker] = share[taker], giver
            share[giver] -= 1 - share[taker]
            if share[giver] < 1:
                poor.append(rich.pop())
    return keep, alias


@numba.njit(nogil=True, cache=True)
def _draw_events(photons, cumulative, keep, alias, rng):
    """Events of some pixels, each pixel's followed by the separator."""
    n_kinds, n_channels = keep.shape
    events = np.empty(photons.sum() + photons.size, dtype=np.uint16)
    position = 0
    for pixel in range(photons.size):
        for _ in range(photons[pixel]):
            u = rng.random()
            kind = 0
            while kind < n_kinds - 1 and u >= cumulative[pixel, kind]:
                kind += 1
            v = rng.random() * n_channels
            channel = int(v)
            if v - channel >= keep[kind, channel]:
                events[position] = alias[kind, channel]
            else:
                events[position] = channel
            position += 1
        events[position] = NEXT_PIXEL
        position += 1
    return events


def _progressbar(show_progressbar, total, description):
    from tqdm.auto import tqdm

    return tqdm(total=total, desc=description, disable=not is_shown(show_progressbar))
