"""What speaks against a HAADF image, in words.

Every finding has to be significant and large. The limits were set on simulated specimens, so that none of
those with a right image is suspected; see ``benchmarks/diagnosis.py``.
"""

import numpy as np

from .verdict import Finding

__all__ = ["is_shifted", "of"]

# Standard errors by which a finding stands out.
SIGNIFICANT = 4.0
# Of a gain, whose error is on the safe side.
GAIN_SIGNIFICANT = 2.0
SATURATED = 0.005
# More leaves too little of the image to see where it lies.
MOSTLY_CLIPPED = 0.05
SHIFT = 0.5
BEND = 0.05
LEVEL = 0.05
# Channelling and the like leave a few per cent of the contrast, less than one of its variance.
UNEXPLAINED = 0.02
# The power model is predicted to first order only.
UNEXPLAINED_OF_POWER = 0.05
# More than a bend could leave.
TOO_MUCH_FOR_A_BEND = 0.4


def of(verdict, image, model):
    """Findings, the serious ones first.

    Parameters
    ----------
    verdict : Verdict
    image : object
        Checks of the image: ``shift``, ``misfit`` and ``refitted()``.
    model : FusedMultiModal

    Returns
    -------
    list of Finding
    """
    found = _of_gain(verdict, model) + _of_image(verdict, image, model) + _of_elements(verdict, model)
    return sorted(found, key=lambda finding: not finding.serious)


def _of_gain(verdict, model):
    found = []
    if not verdict.helps and not np.isnan(verdict.gain).all():
        what = (
            "Maps of the counts alone foretell new counts better"
            if verdict.harms
            else "What the image adds does not stand out of the noise"
        )
        found.append(Finding(
            "no gain", True,
            f"{what}: fuse without the image, maps.fuse(None), unless something below can be put right.",
        ))  # fmt: skip
    if model.lambda_haadf == 0:
        found.append(Finding(
            "left out", False,
            "The fit left the image out (lambda_haadf=0). The gain is what it would be with lambda_haadf=1.",
        ))  # fmt: skip
    return found


def _of_image(verdict, image, model):
    found = _of_saturation(verdict)
    if verdict.inverted:
        return found + [Finding(
            "inverted", True,
            f"The image is dark where the maps say it should be bright (correlation {verdict.correlation:.2f}): a "
            "bright-field image, or one with inverted contrast? Use a HAADF image, or invert it.",
        )]  # fmt: skip
    clipped = max(verdict.saturated)
    if is_shifted(image.shift) and clipped < MOSTLY_CLIPPED:
        # Nothing else can be told from an image that lies beside the maps.
        return found + [_shifted(verdict, image.shift)]
    if found:
        # What is clipped is bent.
        return found
    misfit = image.misfit
    bent = abs(misfit.bend) > max(BEND, SIGNIFICANT * misfit.bend_error)
    least = UNEXPLAINED_OF_POWER if model.forward == "power" else UNEXPLAINED
    missed = misfit.unexplained > max(
        TOO_MUCH_FOR_A_BEND if bent else least, SIGNIFICANT * misfit.unexplained_error
    )
    if (missed or bent) and _other_weights_explain(misfit, image, model):
        found.append(_weights(model))
    elif missed:
        found.append(_unexplained(misfit))
    elif bent:
        found.append(_bent(misfit, model))
    if abs(misfit.level) > max(LEVEL, SIGNIFICANT * misfit.level_error) and not (missed or bent):
        found.append(Finding(
            "level", True,
            f"Where it is darkest the image differs by {verdict.level:.3g} ± {verdict.level_error:.2g} from its "
            f"model: haadf_offset={model.haadf_offset:.4g} seems to be wrong; leave it 'auto'.",
        ))  # fmt: skip
    return found


def _of_saturation(verdict):
    found = []
    for share, end in zip(verdict.saturated, ("darkest", "brightest")):
        if share > SATURATED:
            found.append(Finding(
                "saturated", True,
                f"{100 * share:.2g} % of the pixels have exactly the {end} value: the image is clipped. Leave "
                "these pixels out (haadf_noise=inf there).",
            ))  # fmt: skip
    return found


def is_shifted(shift):
    """Whether a `Shift`, or None, is evident and large enough to matter."""
    return shift is not None and shift.length > max(SHIFT, SIGNIFICANT * shift.length_error)


def _shifted(verdict, shift):
    digits = 1 if verdict.shift_error.min() > 0.05 else 2
    y, x = (
        f"{move:+.{digits}f} ± {max(error, 0.01):.{digits}f}"
        for move, error in zip(verdict.shift, verdict.shift_error)
    )
    text = (
        f"The image lies beside the maps. Move it by {x} pixels along x and {y} along y (positive: towards "
        "higher pixel numbers)"
    )
    if verdict.units != "px":
        text += f", {_calibrated(verdict, 1)} and {_calibrated(verdict, 0)} {verdict.units}"
    text += ", and fuse again."
    if shift.length > 5 and shift.unmoved_correlation < 0.5 * shift.correlation:
        text += (
            " If it was recorded together with the maps, the element that is brightest may not be mapped."
        )
    return Finding("shifted", True, text)


def _calibrated(verdict, axis):
    """A shift in calibrated units, to as many digits as a tenth of a pixel has."""
    value, pixels = verdict.shift_calibrated[axis], verdict.shift[axis]
    step = 0.1 * abs(value / pixels) if pixels else 0.1
    return f"{value:+.{int(np.clip(np.ceil(-np.log10(step)), 0, 9))}f}"


def _bent(misfit, model):
    dark = misfit.bend > 0
    text = (
        f"The image is not linear in the maps: bright areas are too {'dark' if dark else 'bright'}, its "
        f"curve is bent by {100 * abs(misfit.bend):.0f} ± {max(100 * misfit.bend_error, 1):.0f} % of the range. "
    )
    text += (
        "A thick specimen, saturation, or a display gamma; use the raw image."
        if dark
        else "A display gamma, or something bright that is in no map."
    )
    if model.forward == "power":
        text += " Compare forward='linear'."
    elif not dark:
        text += " Compare forward='power'."
    return Finding("bent", True, text)


def _other_weights_explain(misfit, image, model):
    """Whether weights that were given are to blame."""
    if model.weights_rule not in ("given", "sensitivities") or model.preset is not None:
        return False
    other = image.refitted()
    return (
        other.unexplained < max(UNEXPLAINED, 0.25 * misfit.unexplained)
        and abs(other.bend) < max(BEND, 0.4 * abs(misfit.bend))
    )  # fmt: skip


def _weights(model):
    which = "sensitivities" if model.weights_rule == "sensitivities" else "weights"
    return Finding(
        "weights", True,
        f"The image does not follow from the maps with the {which} that were given, but does with other weights: "
        f"check the {which}, and that all elements that go together are mapped.",
    )  # fmt: skip


def _unexplained(misfit):
    text = (
        f"At least {100 * misfit.unexplained:.2g} % of the image's variance is structure that is in no map: an "
        "element may be missing from the list"
    )
    text += ", which is bright in places." if misfit.brightness > 2 else "."
    return Finding("unexplained", True, text + " Look at plot_diagnosis().")


def _of_elements(verdict, model):
    found = []
    names = np.array(verdict.elements)
    few = np.isnan(verdict.gain) & ~verdict.filtered
    if verdict.filtered.any():
        found.append(Finding(
            "filtered", False,
            f"{_listed(names[verdict.filtered])}: filtered, resampled or denoised maps do not show their noise, so "
            "that nothing can be foretold from them. Use the counts as they were recorded.",
        ))  # fmt: skip
    if few.any():
        found.append(Finding(
            "too few counts", False,
            f"{_listed(names[few])}: too few counts to tell what the image adds.",
        ))  # fmt: skip
    with np.errstate(invalid="ignore"):
        idle = verdict.gain < GAIN_SIGNIFICANT * verdict.gain_error
        worse = verdict.gain < -GAIN_SIGNIFICANT * verdict.gain_error
    if verdict.helps and idle.any():
        text = []
        if (idle & ~worse).any():
            text.append(f"{_listed(names[idle & ~worse])}: what the image adds does not stand out of the noise.")
        if worse.any():
            text.append(f"{_listed(names[worse])}: better without the image.")
        text.append("What is known of light elements beside heavy ones comes from their counts.")
        found.append(Finding("no gain of an element", False, " ".join(text)))
    if model.weights_rule == "prior":
        weak = np.asarray(model.weights_data_share) < 0.5
        found.append(Finding(
            "weights not determined", False,
            f"The maps do not tell the weight of {_listed(names[weak])}; the atomic number decided. The image "
            "cannot tell these elements apart from others that go together with them.",
        ))  # fmt: skip
    return found


def _listed(names):
    return ", ".join(names)
