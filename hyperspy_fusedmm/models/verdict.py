"""What a diagnosis found, and how it is said."""

from dataclasses import dataclass, field

import numpy as np

__all__ = ["Finding", "Verdict"]


@dataclass(frozen=True)
class Finding:
    """One thing to know about a fusion.

    Attributes
    ----------
    kind : str
        "no gain", "left out", "saturated", "inverted", "shifted", "bent", "unexplained", "level", "weights",
        "no gain of an element", "filtered", "too few counts" or "weights not determined".
    serious : bool
        Whether the HAADF image should not be trusted before this is understood.
    text : str
        What was found and what to do, in a sentence or two.
    """

    kind: str
    serious: bool
    text: str


@dataclass(frozen=True, eq=False)
class Verdict:
    """What :meth:`FusedMultiModal.diagnose` found; printed as a short statement.

    Numbers that the data did not tell are NaN.

    Attributes
    ----------
    elements : list of str
    gain : (E,) array
        What the HAADF image adds to the log-likelihood of new counts of each element, in nats, over fits to the
        counts alone of the best strength.
    gain_error : (E,) array
        Rough standard error.
    filtered : (E,) array of bool
        Maps whose noise is not independent from pixel to pixel; their gain cannot be told.
    gain_per_1000_counts : (E,) array
        NaN for maps that do not hold counts.
    influence : (E,) array
        Share of the information on the fused maps that the image brings, averaged over what is in them.
    saturated : tuple of float
        Share of the pixels piled up at the darkest and at the brightest value.
    inverted : bool
    correlation : float
        Of the image with the measured maps, weighted by atomic number, the noise of these included.
    shift, shift_error : (2,) array
        Rows and columns, in pixels, by which the HAADF image has to be moved to lie on the maps, and standard
        errors.
    shift_calibrated : (2,) array
        The same in the units of the axes.
    bend, bend_error : float
        How far the image is from a straight line against the maps, in the middle of its range and as a part of it:
        negative where thick or bright areas are too bright, positive where they are too dark.
    unexplained, unexplained_error : float
        Part of the variance of the image that is structure in no map.
    level, level_error : float
        Image less model where the image is darkest, in its own units.
    composition_change : (E,) array
        Largest change of the composition of a pixel, as root mean square in percent points, when any weight moves
        by ``uncertainty_of_weights``.
    composition : {"atomic percent", "share of the counts"}
    uncertainty_of_weights : float
    guided : bool
        Whether the image also steers the regularization, or is what it is relative to, which ``influence`` and
        ``composition_change`` do not hold.
    findings : list of Finding
        The serious ones first.
    """

    elements: list
    gain: np.ndarray
    gain_error: np.ndarray
    filtered: np.ndarray
    gain_per_1000_counts: np.ndarray
    total_gain_per_1000_counts: float
    influence: np.ndarray
    saturated: tuple
    inverted: bool
    correlation: float
    shift: np.ndarray
    shift_error: np.ndarray
    shift_calibrated: np.ndarray
    units: str
    bend: float
    bend_error: float
    unexplained: float
    unexplained_error: float
    level: float
    level_error: float
    composition_change: np.ndarray
    composition: str
    uncertainty_of_weights: float
    guided: bool = False
    findings: list = field(default_factory=list)

    @property
    def total_gain(self):
        """Gain of all elements together, in nats."""
        return float(np.nansum(self.gain))

    @property
    def total_gain_error(self):
        """Rough standard error of ``total_gain``."""
        return float(np.sqrt(np.nansum(np.square(self.gain_error))))

    @property
    def helps(self):
        """Whether the image adds to what the counts tell (bool); False where that cannot be told."""
        return self.total_gain >= 2 * self.total_gain_error > 0

    @property
    def harms(self):
        """Whether the counts alone foretell new counts better than with the image (bool)."""
        return self.total_gain < -2 * self.total_gain_error

    @property
    def trustworthy(self):
        """Whether the image helps and nothing serious was found (bool)."""
        return not any(finding.serious for finding in self.findings)

    def __repr__(self):
        helps = "helps" if self.helps else "harms" if self.harms else "does not help"
        helps = "adds what cannot be told" if np.isnan(self.gain).all() else helps
        kinds = ", ".join(finding.kind for finding in self.findings) or "nothing to note"
        return f"<Verdict: the HAADF image {helps}; {kinds}>"

    def __str__(self):
        lines = [self._headline(), ""]
        lines.append(f"{'':9s}{'gain in nats':>19s}{'per 1000 counts':>18s}{'from the image':>17s}"
                     f"{'± composition':>16s}")  # fmt: skip
        rows = zip(
            self.elements, self.gain, self.gain_error, self.gain_per_1000_counts, self.influence,
            self.composition_change,
        )  # fmt: skip
        for name, gain, error, relative, influence, change in rows:
            told = f"{gain:.0f} ± {error:.0f}" if np.isfinite(gain) else "cannot be told"
            ratio = f"{relative:.3g}" if np.isfinite(relative) else "-"
            lines.append(f"  {name:7s}{told:>19s}{ratio:>18s}{100 * influence:>15.0f} %"
                         f"{_points(change):>16s}")  # fmt: skip
        lines += ["", self._composition()]
        if self.guided:
            lines += _wrapped(
                "The image also steers the regularization (guided, or relative to it). The gain holds that; the "
                "columns 'from the image' and 'composition' do not."
            )
        for finding in self.findings:
            lines += _wrapped(("! " if finding.serious else "- ") + finding.text)
        if not self.findings:
            lines.append("Nothing speaks against the image.")
        return "\n".join(lines)

    def _headline(self):
        if np.isnan(self.gain).all():
            return "What the HAADF image adds cannot be told from these maps."
        total, error = self.total_gain, self.total_gain_error
        relative = self.total_gain_per_1000_counts
        amount = f"{total:.0f} ± {error:.0f} nats of held-out likelihood"
        if np.isfinite(relative):
            amount += f", {relative:.3g} per 1000 counts"
        if self.harms:
            return f"The HAADF image harms: it adds {amount}."
        if not self.helps:
            return f"The HAADF image does not help: it adds {amount}."
        if self.trustworthy:
            return f"The HAADF image helps: it adds {amount}."
        return f"The HAADF image adds {amount}, but beware:"

    def _composition(self):
        largest = np.nanmax(self.composition_change, initial=0.0)
        return (
            f"With any weight {100 * self.uncertainty_of_weights:g} % off, the composition "
            f"({self.composition}) moves by up to {largest:.1f} points."
        )


def _points(change):
    return f"{change:.1f} points" if np.isfinite(change) else "-"


def _wrapped(text, width=92):
    from textwrap import wrap

    return wrap(text, width, subsequent_indent="  ")
