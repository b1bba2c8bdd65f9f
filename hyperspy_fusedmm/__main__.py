"""The main job from the command line: ``python -m hyperspy_fusedmm [FILE ...]``.

Without files the job runs on a simulated specimen, of which the truth is known: the
printed errors are those of the maps themselves.
"""

import argparse
import os
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

EXAMPLE_FOLDER = "fusedmm-example"

FUSED_FILE = "fused_maps.hspy"
CONVERGENCE_FILE = "convergence.png"
MAPS_FILE = "raw_and_fused.png"

EXAMPLE = {"shape": (128, 128), "dose": 1.0, "haadf_snr": 20.0, "seed": 0}


@dataclass(frozen=True)
class Recording:
    """What there is to fuse.

    Attributes
    ----------
    maps : ElementMaps
        Counts.
    haadf : hyperspy.api.signals.Signal2D
        HAADF image on the same grid.
    options : dict
        What is known beforehand: options of `ElementMaps.fuse`.
    expected : numpy.ndarray of shape (E, R, C) or None
        Expected counts, where the specimen is a simulated one.
    """

    maps: object
    haadf: object
    options: dict
    expected: np.ndarray | None = None


@dataclass(frozen=True)
class Accuracy:
    """How far the maps of one element are from the expected counts.

    Attributes
    ----------
    element : str
        Chemical symbol.
    counts : float
        Mean counts per pixel.
    error_before, error_after : float
        Root-mean-square error of the raw and of the fused map, divided by the root mean square
        of the expected counts.
    """

    element: str
    counts: float
    error_before: float
    error_after: float

    @property
    def snr_gain(self):
        """Signal-to-noise ratio of the fused map over that of the raw map."""
        return self.error_before / self.error_after if self.error_after > 0 else np.inf


def main(arguments=None):
    """Run the command line.

    Parameters
    ----------
    arguments : list of str, optional
        Arguments; by default those of the process.

    Returns
    -------
    int
        Exit code: 0 when all is written, 1 when something is in the way, 130 when interrupted.
        Wrong arguments make argparse exit with 2.
    """
    parser = build_parser()
    parsed = parser.parse_args(arguments)
    if not parsed.files and (parsed.elements or parsed.lines or parsed.haadf):
        parser.error(
            "--elements, --lines and --haadf say what to take from a FILE, but none is given"
        )
    try:
        check_files(parsed.files)
        folder = prepare_folder(parsed.output or default_folder(parsed.files))
        with warnings.catch_warnings():
            # eXSpy 0.3.2 imports from where HyperSpy 2.5 would rather not have it.
            warnings.filterwarnings("ignore", message="Importing `Lazy")
            recording = read_files(parsed) if parsed.files else record_example()
            run(recording, folder)
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted: nothing is left half-written", file=sys.stderr)
        return 130
    return 0


def build_parser():
    """Parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hyperspy_fusedmm",
        description=(
            "Fuse element maps with the HAADF image recorded with them. Without FILE it runs on a "
            "simulated EDX spectrum image of core-shell particles: extracts the X-ray lines with "
            "eXSpy, fuses the maps, and prints how close they come to the truth."
        ),
        epilog=(
            f"Writes {FUSED_FILE} (fused maps, for HyperSpy), {CONVERGENCE_FILE} and {MAPS_FILE} "
            "to the folder, in place of earlier ones."
        ),
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="*",
        type=Path,
        help=(
            "a Velox EMD file, or files of any kind that HyperSpy opens and that together hold a "
            "HAADF image and an EDX spectrum image or element maps"
        ),
    )
    parser.add_argument(
        "--elements",
        metavar="X",
        nargs="+",
        help="elements to map, such as: Co S O (default: those named in the file)",
    )
    parser.add_argument(
        "--lines",
        metavar="X_Ka",
        nargs="+",
        help="X-ray lines to map, such as: Co_Ka (default: eXSpy's choice for each element)",
    )
    parser.add_argument(
        "--haadf", metavar="TITLE", help="title of the HAADF image (default: one that says HAADF)"
    )
    parser.add_argument(
        "-o",
        "--output",
        metavar="DIR",
        type=Path,
        help=(
            "folder to write to, made if it does not exist (default: "
            f"./{EXAMPLE_FOLDER}, or named after the first FILE)"
        ),
    )
    return parser


def check_files(files):
    """Refuse files that do not exist, before a folder is made for their results.

    Parameters
    ----------
    files : list of pathlib.Path
        Files to read.

    Raises
    ------
    FileNotFoundError
        Naming the first that is missing.
    """
    for file in files:
        if not file.is_file():
            raise FileNotFoundError(f"there is no file {str(file)!r}")


def default_folder(files):
    """Folder to write to where none is named.

    Parameters
    ----------
    files : list of pathlib.Path
        Files to read; empty for the example.

    Returns
    -------
    pathlib.Path
    """
    if not files:
        return Path(EXAMPLE_FOLDER)
    return Path(f"{files[0].stem}-fused")


def prepare_folder(folder):
    """Make the folder and see that files can be written there, before any work is done.

    Parameters
    ----------
    folder : pathlib.Path
        Folder.

    Returns
    -------
    pathlib.Path

    Raises
    ------
    OSError
        If the folder cannot be made or written to; the message names it.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = error.strerror or str(error)
        raise OSError(
            f"cannot write to the folder {str(folder)!r} ({reason}); choose another with -o DIR"
        ) from error
    return folder


def read_files(parsed):
    """Read a recording from files.

    Parameters
    ----------
    parsed : argparse.Namespace
        Files, elements, lines and the title of the HAADF image.

    Returns
    -------
    Recording
    """
    from .io.recording import load_recording

    print(f"Reading {', '.join(map(str, parsed.files))}")
    maps, haadf = load_recording(
        parsed.files,
        elements=parsed.elements,
        lines=parsed.lines,
        haadf=parsed.haadf,
        show_progressbar=True,
    )
    counts = maps.data.reshape(len(maps.elements), -1).mean(axis=1)
    described = [f"{element} {mean:.3g}" for element, mean in zip(maps.elements, counts)]
    print(f"Mean of the maps per pixel: {', '.join(described)}")
    return Recording(maps=maps, haadf=haadf, options={})


def record_example():
    """Simulate a spectrum image of core-shell particles and extract its lines.

    Returns
    -------
    Recording
    """
    from .data import core_shell_particles

    rows, columns = EXAMPLE["shape"]
    print(
        f"Simulating an EDX spectrum image of CoS/CoO core-shell particles: {rows} x {columns} "
        f"pixels, {EXAMPLE['dose']:g} count per pixel and element, HAADF SNR "
        f"{EXAMPLE['haadf_snr']:g}"
    )
    specimen = core_shell_particles(**EXAMPLE, spectrum_image=True)
    return Recording(
        maps=extract_maps(specimen.spectrum),
        haadf=specimen.haadf,
        # Known from the calibration of a microscope (k-factors): here exactly.
        options={"sensitivities": specimen.sensitivities},
        expected=specimen.expected_intensities(),
    )


def extract_maps(spectrum):
    """Element maps from the X-ray lines of a spectrum image, by eXSpy.

    Parameters
    ----------
    spectrum : exspy.signals.EDSTEMSpectrum
        Spectrum image that names its X-ray lines.

    Returns
    -------
    ElementMaps
        Gross counts, whatever lies under the lines included: net counts would not be Poisson.
    """
    from .signals.element_maps import element_maps

    print(f"Extracting {', '.join(spectrum.metadata.Sample.xray_lines)} with eXSpy")
    return element_maps(spectrum.get_lines_intensity())


def run(recording, folder):
    """Fuse a recording, print what was gained, and write the results.

    Parameters
    ----------
    recording : Recording
        What to fuse.
    folder : pathlib.Path
        Existing folder.

    Returns
    -------
    fused : ElementMaps
    model : FusedMultiModal
    """
    fused, model = fuse(recording)
    if recording.expected is not None:
        print()
        print(table(accuracies(recording.expected, recording.maps, fused)))
        print()
    for path in write_results(folder, fused, model):
        print(f"Wrote {path}")
    return fused, model


def fuse(recording):
    """Fuse with a progress bar, and say how it ended.

    Parameters
    ----------
    recording : Recording
        What to fuse.

    Returns
    -------
    fused : ElementMaps
    model : FusedMultiModal
    """
    start = time.perf_counter()
    fused, model = recording.maps.fuse(
        recording.haadf, return_model=True, show_progressbar=True, **recording.options
    )
    print(
        f"Fused {len(fused.elements)} maps of {' x '.join(map(str, fused.data.shape[1:]))} pixels: "
        f"{model.iterations} iterations in {time.perf_counter() - start:.1f} s, "
        f"relative duality gap {model.relative_gap:.1e}"
    )
    return fused, model


def accuracies(expected, raw, fused):
    """Accuracy of the raw and the fused map of every element.

    Parameters
    ----------
    expected : numpy.ndarray of shape (E, R, C)
        Expected counts.
    raw, fused : ElementMaps
        Maps of the same elements in the same order.

    Returns
    -------
    list of Accuracy
    """
    return [
        Accuracy(
            element,
            counts=float(before.mean()),
            error_before=relative_error(before, truth),
            error_after=relative_error(after, truth),
        )
        for element, truth, before, after in zip(raw.elements, expected, raw.data, fused.data)
    ]


def relative_error(values, truth):
    """Root-mean-square error over the root mean square of the truth."""
    truth = np.asarray(truth, dtype=float)
    return float(np.linalg.norm(values - truth) / np.linalg.norm(truth))


def table(rows):
    """Aligned table with one line per element.

    Parameters
    ----------
    rows : list of Accuracy
        Lines of the table.

    Returns
    -------
    str
    """
    head = ("Element", "Counts/pixel", "Error before", "Error after", "SNR gain")
    lines = [head] + [
        (
            row.element,
            f"{row.counts:.2f}",
            f"{100 * row.error_before:.1f} %",
            f"{100 * row.error_after:.1f} %",
            f"{row.snr_gain:.1f} x",
        )
        for row in rows
    ]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *map(str.rjust, line[1:], widths[1:])])
        for line in lines
    )


def write_results(folder, fused, model):
    """Write the fused maps and the figures.

    Parameters
    ----------
    folder : pathlib.Path
        Existing folder; files of the same names are replaced.
    fused : ElementMaps
        Fused maps.
    model : FusedMultiModal
        Fitted model.

    Returns
    -------
    list of pathlib.Path
        What was written.
    """
    with replacing(folder / FUSED_FILE) as path:
        fused.save(path, overwrite=True)
    write_figure(model.plot_convergence, folder / CONVERGENCE_FILE)
    write_figure(model.plot_maps, folder / MAPS_FILE)
    return [folder / name for name in (FUSED_FILE, CONVERGENCE_FILE, MAPS_FILE)]


def write_figure(plot, path):
    """Write the figure that a function draws, without a display.

    Parameters
    ----------
    plot : callable
        Returns a matplotlib Figure.
    path : pathlib.Path
        File to write.
    """
    import matplotlib.pyplot as plt

    figure = plot()
    try:
        with replacing(path) as temporary:
            figure.savefig(temporary, dpi=150)
    finally:
        plt.close(figure)


@contextmanager
def replacing(path):
    """A name to write to that becomes the file only when all is written.

    Parameters
    ----------
    path : pathlib.Path
        File that is wanted.

    Yields
    ------
    pathlib.Path
        Name in the same folder with the same ending.
    """
    temporary = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    import matplotlib

    # Figures go to files: no window, and no display needed.
    matplotlib.use("agg")
    sys.exit(main())
