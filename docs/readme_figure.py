"""The figure of the README: ``python docs/readme_figure.py`` draws it anew.

Counts above fused maps above what an infinite dose would give, of the specimen, and with the options,
that ``python -m hyperspy_fusedmm`` uses.
"""

from pathlib import Path

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt  # noqa: E402
import numpy as np  # noqa: E402

from hyperspy_fusedmm.__main__ import record_example  # noqa: E402
from hyperspy_fusedmm.drawing.image import (  # noqa: E402
    add_caption,
    add_scale_bar,
    display_data,
    show_image,
)

FILE = Path(__file__).parent / "_static" / "raw_fused_expected.png"


def draw():
    """Draw the figure.

    Returns
    -------
    matplotlib.figure.Figure
    """
    recording = record_example()
    maps, haadf = recording.maps, recording.haadf
    fused, model = maps.fuse(haadf, return_model=True, show_progressbar=False, **recording.options)
    rows = {
        "Counts": maps,
        "Fused": fused,
        "Expected": maps._deepcopy_with_new_data(np.asarray(recording.expected)),
    }
    figure, axes = plt.subplots(3, 4, figsize=(8.0, 6.3), layout="constrained")
    for column, element in zip(axes.T, maps.elements):
        # Colours reach what the specimen holds: what is drawn brighter is noise.
        high = np.percentile(rows["Expected"].get_map(element).data, 99.8)
        for ax, row in zip(column, rows.values()):
            shown = show_image(
                ax, *display_data(row.get_map(element)), cmap="inferno", vmin=0, vmax=high
            )
        figure.colorbar(
            shown, ax=column, location="bottom", aspect=16, pad=0.02, extend="max",
            label=f"{element} counts per pixel",
        )  # fmt: skip
        column[0].set_title(f"{element}")
    for ax, name in zip(axes[:, 0], rows):
        ax.set_ylabel(name)
    draw_haadf(axes[:, 3], haadf, model)
    add_scale_bar(axes[0, 0], haadf)
    return figure


def draw_haadf(axes, haadf, model):
    """The image, its fit and what is left, in the last column."""
    low, high = np.percentile(haadf.data, (0.2, 99.8))
    for ax, image, caption in zip(axes, (haadf, model.haadf_fit), ("recorded", "fit")):
        show_image(ax, *display_data(image), cmap="gray", vmin=low, vmax=high)
        add_caption(ax, caption)
    limit = 3 * model.haadf_noise
    shown = show_image(
        axes[2], *display_data(model.haadf_residual), cmap="RdBu_r", vmin=-limit, vmax=limit
    )
    add_caption(axes[2], "recorded minus fit")
    axes[0].set_title("HAADF")
    axes[0].figure.colorbar(
        shown, ax=axes, location="bottom", aspect=16, pad=0.02, label="recorded minus fit"
    )


if __name__ == "__main__":
    FILE.parent.mkdir(exist_ok=True)
    draw().savefig(FILE, dpi=95)
    print(f"Wrote {FILE} ({FILE.stat().st_size / 1000:.0f} kB)")
