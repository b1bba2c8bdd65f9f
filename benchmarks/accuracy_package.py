"""The public package `multimodal-fusion` in an environment of its own, at every setting of a small grid.

Called by this project with files to read and to write; run there as ``python accuracy_package.py IN OUT``.
"""

import os
import subprocess
import sys
import tempfile
from itertools import product

import numpy as np

GAMMAS = (1.0, 1.6)
LAMBDAS_CHEM = (0.001, 0.005, 0.03, 0.1)
LAMBDAS_TV = (0.01, 0.05, 0.15, 0.4)
# Its defaults, but for fewer inner iterations of TV than 15: the tutorial takes 3 to 6.
ITERATIONS, TV_ITERATIONS, BACKGROUND = 50, 6, 0.1


def package_candidates(specimen, python):
    """Results of the package, which are between 0 and 1.

    Parameters
    ----------
    specimen : Specimen
    python : path
        Python of the package's environment.

    Yields
    ------
    setting : str
    maps : (E, R, C) array
    """
    arrays = {
        f"map {element}": specimen.maps.get_map(element).data for element in specimen.maps.elements
    }
    with tempfile.TemporaryDirectory() as folder:
        inputs, outputs = (os.path.join(folder, name) for name in ("in.npz", "out.npz"))
        np.savez(inputs, haadf=np.asarray(specimen.haadf.data, dtype=float), **arrays)
        command = [str(python), __file__, inputs, outputs]
        environment = {**os.environ, "MPLBACKEND": "agg"}
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode != 0:
            raise RuntimeError(f"the package failed:\n{done.stderr}")
        with np.load(outputs) as results:
            yield from ((setting, results[setting]) for setting in results.files)


def package_fusion(specimen, loss, truth, python):
    """The setting that is best for all elements, each map brought to counts as well as a line can."""
    from accuracy_methods import best_in_common

    candidates = (
        (setting, np.stack([rescaled(*pair) for pair in zip(maps, truth)]))
        for setting, maps in package_candidates(specimen, python)
    )
    return best_in_common(candidates, loss)


def rescaled(values, truth):
    """The line through the values that is closest to the truth, nowhere negative."""
    values, truth = np.asarray(values, dtype=float), np.asarray(truth, dtype=float)
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return np.full(truth.shape, truth.mean())
    slope, constant = np.polyfit(values.ravel(), truth.ravel(), 1)
    return np.maximum(slope * values + constant, 0)


def main(inputs, outputs):
    """Run the whole grid on one specimen."""
    from multimodal_fusion import DataFusion

    with np.load(inputs) as data:
        haadf = data["haadf"]
        maps = {name.split()[1]: data[name].astype(float) for name in data.files if name != "haadf"}
    results = {}
    for gamma in GAMMAS:
        fusion = DataFusion(list(maps), gamma=gamma)
        # The package scales what it is given in place.
        fusion.load_chemical_maps({name: values.copy() for name, values in maps.items()}, method=1)
        fusion.load_haadf(haadf.copy())
        for chem, tv in product(LAMBDAS_CHEM, LAMBDAS_TV):
            fusion.run(
                nIter=ITERATIONS, lambdaEDS=chem, lambdaTV=tv, ng=TV_ITERATIONS, bkg=BACKGROUND,
                plot_images=False, plot_convergence=False,
            )  # fmt: skip
            found = np.stack(list(fusion.get_results().values())).astype(np.float32)
            results[f"gamma {gamma}, chem {chem}, tv {tv}"] = found
    np.savez(outputs, **results)


if __name__ == "__main__":
    main(*sys.argv[1:])
