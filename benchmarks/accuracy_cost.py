"""What choosing from the data costs, in fits with what was chosen."""

import time

import solver_support as support

import hyperspy_fusedmm as fmm

ELEMENTS = ("Co", "S", "O", "Au")


def costs(size, doses):
    """Processor time of an automatic fit and of one with the same settings given.

    Both begin with the measured maps, and end at the same tolerance or number of iterations. Processor time,
    of all threads, is what others on the machine change least.

    Parameters
    ----------
    size : int
        Rows and columns; there are four elements.
    doses : sequence of float
        Mean counts per pixel and element.

    Returns
    -------
    str
        Table.
    """
    _timed(*_recording(64, 1.0))  # compiles
    rows = []
    for dose in doses:
        model, whole = _timed(*_recording(size, dose))
        settings = {
            name: getattr(model, name)
            for name in ("lambda_haadf", "lambda_tv", "regularization", "guided")
        }
        again, one = _timed(*_recording(size, dose), initial="measured", **settings)
        form = f"{model.regularization}{', guided' if model.guided else ''}"
        rows.append([
            f"{dose:g}", form, str(len(model.selection["score"])), f"{whole:.1f}", f"{one:.1f}",
            str(again.iterations), f"{whole / one:.1f}",
        ])  # fmt: skip
    head = ["dose", "chosen", "tried", "automatic (s)", "one fit (s)", "its iterations", "ratio"]
    return support.as_rst(head, rows)


def _recording(size, dose):
    from hyperspy.signals import Signal2D

    arrays = support.simulated((size, size), elements=len(ELEMENTS), dose=dose)
    return fmm.element_maps(dict(zip(ELEMENTS, arrays["maps"]))), Signal2D(arrays["haadf"])


def _timed(maps, haadf, **options):
    """The fitted model, and seconds of all threads."""
    model = maps.create_model(haadf)
    begin = time.process_time()
    model.fit(show_progressbar=False, **options)
    return model, time.process_time() - begin
