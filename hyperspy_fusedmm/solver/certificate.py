"""Primal and dual value of the linear problem at the current state.

For any dual field p inside its ball and any r at every pixel, convexity gives

    P(x*) >= sum_p [ -r t - r^2 / (2 rho) + sum_i min_{x_i >= 0} ( a_i x_i - b_i log(x_i + eps_i) ) ],
    a_i = kappa_i lambda_chem + r w_i - y_i,   y = -grad' D p,   t = b_H - offset,

with the inner minimum in closed form. It is minus infinity where a_i < 0 and b_i = 0, so r is
first raised until every a_i >= 0 and then, at each pixel, moved to where the bound is largest.
That is of no use where the HAADF image does not count or an element has no weight, and costs
much where its weight is faint. There x_i is bounded instead. For isotropic TV the optimum is
known not to exceed a certain value; for guided and second-order regularization it is taken
not to exceed twice the largest of the measured and the present values of the map and of the
value that alone would explain the brightest pixel of the HAADF image. With faint weights both
ways are tried, and the better bound counts. Bounds are paid for wherever a_i < 0, which is much where
they are high; dual fields scaled down a little, of which fewer a_i are negative, are tried there too.

For TGV the dual fields must obey D p = E'q, E' the adjoint of the curvature operator. Of the p in
their balls the one with D p nearest to E'q is taken. For any p and q in their balls

    sum strength (|D (grad x - v)| + ratio |E v|) >= sum grad x . D p - sum |v| |E'q - D p|,

and so what is left of the difference is charged at the steepest slope field v that the optimum
may have, taken to be twice the steepest v or residual slope D (grad x - v) of the present maps.

Relative to a reference s g the regularization is of x - s g, whose gradient any p in its ball bounds as well:
the bound gains y s g at every pixel.

Everything is summed in double precision.
"""

from dataclasses import dataclass

import numpy as np

from ._elementary import fast_log, kernel
from ._rows import POISSON

__all__ = ["Certificate", "certify"]

# The dual fields lie in their balls to float32 rounding; this much brings them inside.
ROUNDING = 1.0 - 1e-6
SQRT_HALF = np.sqrt(0.5)
NEWTON_STEPS = 3
# Newton steps on the secular equation, which come close from below at once.
SECULAR_STEPS = 3
# The optimum's steepest slope field (TGV), at most, in units of the present one's or of the present
# steepest residual slope, whichever is larger.
STEEPEST = 2.0
# Dual fields scaled down by this part of the relative gap are tried where maps must be bounded.
SHRINKAGE = 0.25
# The largest value of an optimal map, at most, where no bound is known: in units of the largest
# of its measured and present values and of what alone would make the HAADF image's brightest.
HIGHEST = 2.0
UNLIMITED = 1e30
# Weights this small, relative to the largest, are faint.
FAINT = 0.1


@kernel
def divergence_term(x, eps, counts):
    """Kullback-Leibler divergence of the counts from x + eps: >= 0, and 0 log 0 = 0."""
    expected = x + eps
    return expected - counts + counts * fast_log(max(counts, 1e-290) / max(expected, 1e-290))


@kernel
def likelihood_row(x, counts, spread, chem, slope, fidelity):
    total = 0.0
    if fidelity == POISSON:
        kappa = slope / chem
        for c in range(x.shape[0]):
            expected = kappa * max(np.float64(x[c]), 0.0)
            total += divergence_term(expected, kappa * spread[c], np.float64(counts[c]))
        return chem * total
    for c in range(x.shape[0]):
        misfit = max(np.float64(x[c]), 0.0) - counts[c]
        total += 0.5 * spread[c] * misfit * misfit
    return chem * total


@kernel
def haadf_row(data, x, row, left, right, work):
    """HAADF term along one row, from column ``left`` to ``right``; ``work`` is work space."""
    columns, total, target = right - left, work[left:right], data.target[0, row, left:right]
    for c in range(columns):
        total[c] = -np.float64(target[c])
    for e in range(x.shape[0]):
        weight = data.weights[e, min(row, data.weights.shape[1] - 1), left:right]
        values = x[e, row, left:right]
        for c in range(columns):
            total[c] += np.float64(weight[c]) * max(np.float64(values[c]), 0.0)
    rho = data.rho[0, min(row, data.rho.shape[1] - 1), left:right]
    term = 0.0
    for c in range(columns):
        term += 0.5 * rho[c] * total[c] * total[c]
    return term


@kernel
def slope_norm_row(data, x, v, scale, e, row, left, right, columns_slope, rows_slope):
    """Sum of strength * |D (grad x - v)| along one row, and the largest norm; v empty for TV.

    x is less ``scale`` times the reference, if there is one.
    """
    columns, rows = x.shape[2], x.shape[1]
    here = x[e, row]
    below = x[e, min(row + 1, rows - 1)]
    for c in range(columns):
        columns_slope[c] = 0.0
        rows_slope[c] = max(np.float64(below[c]), 0.0) - max(np.float64(here[c]), 0.0)
    following = here[1:]
    for c in range(columns - 1):
        columns_slope[c] = max(np.float64(following[c]), 0.0) - max(np.float64(here[c]), 0.0)
    if data.reference.shape[0] > 0:
        reference, lower = data.reference[0, row], data.reference[0, min(row + 1, rows - 1)]
        for c in range(columns):
            rows_slope[c] -= scale * (np.float64(lower[c]) - reference[c])
        for c in range(columns - 1):
            columns_slope[c] -= scale * (np.float64(reference[c + 1]) - reference[c])
    if v.shape[0] > 0:
        for c in range(columns):
            columns_slope[c] -= v[2 * e, row, c]
            rows_slope[c] -= v[2 * e + 1, row, c]
    if data.guide.shape[0] > 0:
        for c in range(columns):
            u, w = data.guide[0, row, c], data.guide[1, row, c]
            along = u * columns_slope[c] + w * rows_slope[c]
            columns_slope[c] -= along * u
            rows_slope[c] -= along * w
    strength = data.strength[e, min(row, data.strength.shape[1] - 1), left:right]
    total, largest = 0.0, 0.0
    a, b = columns_slope[left:right], rows_slope[left:right]
    for c in range(right - left):
        norm = np.sqrt(a[c] * a[c] + b[c] * b[c])
        total += strength[c] * norm
        largest = max(largest, norm)
    return total, largest


@kernel
def curvature_norm_row(data, v, e, row, left, right):
    """Sum of strength * |E v| along one row."""
    rows, columns = v.shape[1], v.shape[2]
    a, b = v[2 * e], v[2 * e + 1]
    strength = data.strength[e, min(row, data.strength.shape[1] - 1)]
    total = 0.0
    for c in range(left, right):
        xx = np.float64(a[row, c]) - a[row, c - 1] if 0 < c < columns - 1 else 0.0
        yy = np.float64(b[row, c]) - b[row - 1, c] if 0 < row < rows - 1 else 0.0
        xy = np.float64(a[row, c]) - a[row - 1, c] if row > 0 and c < columns - 1 else 0.0
        if c > 0 and row < rows - 1:
            xy += np.float64(b[row, c]) - b[row, c - 1]
        total += strength[c] * np.sqrt(xx * xx + yy * yy + 0.5 * xy * xy)
    return total


@kernel
def dual_flow_row(state, data, e, row, columns_flow, rows_flow):
    """Row of D p (TV) or E'q (TGV); zero where it would cross the right or lower border."""
    elements = data.counts.shape[0]
    rows, columns = state.shape[1], state.shape[2]
    if state.shape[0] == 3 * elements + 1:
        p_columns, p_rows = state[elements + 2 * e, row], state[elements + 2 * e + 1, row]
        for c in range(columns):
            columns_flow[c] = p_columns[c]
            rows_flow[c] = p_rows[c]
        if data.guide.shape[0] > 0:
            guide_columns, guide_rows = data.guide[0, row], data.guide[1, row]
            for c in range(columns):
                u, w = guide_columns[c], guide_rows[c]
                along = u * columns_flow[c] + w * rows_flow[c]
                columns_flow[c] -= along * u
                rows_flow[c] -= along * w
    else:
        q_xx, q_yy = state[5 * elements + 3 * e], state[5 * elements + 3 * e + 1]
        q_xy = state[5 * elements + 3 * e + 2]
        for c in range(columns):
            xx = np.float64(q_xx[row, c])
            yy = np.float64(q_yy[row, c])
            along_rows = np.float64(q_xy[row, c]) if row > 0 else 0.0
            along_columns = np.float64(q_xy[row, c]) if c > 0 else 0.0
            if c < columns - 1:
                xx -= q_xx[row, c + 1]
                along_columns -= q_xy[row, c + 1]
            if row < rows - 1:
                yy -= q_yy[row + 1, c]
                along_rows -= q_xy[row + 1, c]
            columns_flow[c] = xx + SQRT_HALF * along_rows
            rows_flow[c] = yy + SQRT_HALF * along_columns
    columns_flow[columns - 1] = 0.0
    if row == rows - 1:
        for c in range(columns):
            rows_flow[c] = 0.0


@kernel
def outflow_rows(columns_flow, rows_flow, above, scale, out):
    """y = -grad' (scale flow) along one row; ``above`` is the rows' flow of the row above."""
    here, left, to = columns_flow[1:], columns_flow[: columns_flow.shape[0] - 1], out[1:]
    for c in range(out.shape[0]):
        out[c] = scale * (rows_flow[c] - above[c])
    out[0] += scale * columns_flow[0]
    for c in range(to.shape[0]):
        to[c] += scale * (here[c] - left[c])


@kernel
def nearest_flow_row(data, e, row, left, right, columns_flow, rows_flow):
    """Move the flow E'q along one row to the nearest D p with p in its ball; how far, summed.

    The guide makes the ball an ellipse. Its nearest point is D p with p = (D^2 + mu)^-1 D E'q and mu
    from the secular equation |p| = strength [1]_. In the last column only the component along it
    counts, in the last row likewise.

    .. [1] More & Sorensen, SIAM J. Sci. Stat. Comput. 4, 553 (1983).
    """
    strength = data.strength[e, min(row, data.strength.shape[1] - 1)]
    guided = data.guide.shape[0] > 0
    last_row, last_column = row == data.counts.shape[1] - 1, columns_flow.shape[0] - 1
    moved = 0.0
    for c in range(left, right):
        a, b, radius = columns_flow[c], rows_flow[c], np.float64(strength[c])
        u, w = 0.0, 0.0
        if guided:
            u, w = np.float64(data.guide[0, row, c]), np.float64(data.guide[1, row, c])
        # Most lie inside the circle in the ellipse.
        inner = radius * (1.0 - u * u - w * w)
        if a * a + b * b <= inner * inner:
            continue
        if c == last_column:
            reach = radius * np.sqrt(u * u * w * w + (1.0 - w * w) ** 2)
            near_a, near_b = a, min(max(b, -reach), reach)
        elif last_row:
            reach = radius * np.sqrt(u * u * w * w + (1.0 - u * u) ** 2)
            near_a, near_b = min(max(a, -reach), reach), b
        else:
            share = u * u + w * w
            length, kept = np.sqrt(share), max(1.0 - share, 1e-6)
            # Any direction will do where nothing is taken.
            u, w = (u / length, w / length) if share > 1e-12 else (1.0, 0.0)
            along, across = u * a + w * b, u * b - w * a
            p_along, p_across, norm, mu = 0.0, 0.0, 0.0, 0.0
            for _ in range(SECULAR_STEPS + 1):
                # Components of p, and how fast its norm falls as mu rises.
                p_along, p_across = kept * along / (kept * kept + mu), across / (1.0 + mu)
                square = p_along * p_along + p_across * p_across
                norm = np.sqrt(square)
                if norm <= radius or radius <= 0:
                    break
                fall = p_along * p_along / (kept * kept + mu) + p_across * p_across / (1.0 + mu)
                mu += (norm / radius - 1.0) * square / fall
            inside = min(1.0, radius / max(norm, 1e-290))
            near_along, near_across = inside * kept * p_along, inside * p_across
            near_a, near_b = u * near_along - w * near_across, w * near_along + u * near_across
        moved += np.sqrt((a - near_a) ** 2 + (b - near_b) ** 2)
        columns_flow[c], rows_flow[c] = near_a, near_b
    return moved


@kernel
def response_row(
    y, counts, spread, weight, rho, chem, slope, fidelity, bound, residual, total, gain
):  # fmt: skip
    """Add w_i x_i(r) of the dual's inner minimiser and w_i |dx_i/dr| along one row."""
    if fidelity == POISSON:
        for c in range(y.shape[0]):
            w = np.float64(weight[c])
            a = slope + w * residual[c] - y[c]
            inverse = 1.0 / max(a, 1e-290)
            ratio = chem * counts[c] * inverse
            limit = UNLIMITED if w > 0 and rho[c] > 0 else bound
            x = min(max(ratio - spread[c], 0.0), limit)
            x = limit if a < 0 else x
            total[c] += w * x
            rise = w * w * ratio * inverse
            gain[c] += rise if x > 0 and x < limit else 0.0
    else:
        for c in range(y.shape[0]):
            w = np.float64(weight[c])
            stiffness = chem * spread[c]
            x = counts[c] - (w * residual[c] - y[c]) / stiffness
            total[c] += w * max(x, 0.0)
            gain[c] += w * w / stiffness if x > 0 else 0.0


@kernel
def dual_value_row(
    y, counts, spread, weight, rho, chem, slope, fidelity, bound, use_bounds, residual
):  # fmt: skip
    """Sum along one row of the inner minima, with the likelihood as a divergence.

    The maps are bounded where r cannot be raised, and everywhere if ``use_bounds``.
    """
    value = 0.0
    if fidelity == POISSON:
        kappa = slope / chem
        for c in range(y.shape[0]):
            a = slope + np.float64(weight[c]) * residual[c] - y[c]
            b, eps = np.float64(counts[c]), np.float64(spread[c])
            raised = weight[c] > 0 and rho[c] > 0 and not use_bounds
            limit = UNLIMITED if raised else bound
            x = min(max(chem * b / max(a, 1e-290) - eps, 0.0), limit)
            x = limit if a < 0 else x
            value += (a - slope) * x + chem * divergence_term(kappa * x, kappa * eps, b)
    else:
        for c in range(y.shape[0]):
            a = np.float64(weight[c]) * residual[c] - y[c]
            stiffness, b = np.float64(chem * spread[c]), np.float64(counts[c])
            x = max(b - a / stiffness, 0.0)
            value += a * x + 0.5 * stiffness * (x - b) * (x - b)
    return value


@kernel
def raise_residual(y, counts, weight, rho, slope, residual):
    """Raise r until a_i >= 0, and > 0 where there are counts, if the HAADF image counts there."""
    for c in range(y.shape[0]):
        w = np.float64(weight[c])
        margin = (1e-3 if counts[c] > 0 else 1e-9) * (slope + abs(y[c]))
        lowest = (y[c] - slope + margin) / max(w, 1e-290)
        residual[c] = max(residual[c], lowest) if w > 0 and rho[c] > 0 else residual[c]


@kernel
def limit_decrease(y, counts, weight, rho, slope, before, residual):
    """Keep a Newton step from leaving a_i > 0 where there are counts, a_i >= 0 elsewhere."""
    for c in range(y.shape[0]):
        w = np.float64(weight[c])
        a = slope + w * before[c] - y[c]
        margin = 0.1 * max(a, 0.0) if counts[c] > 0 else 1e-9 * (slope + abs(y[c]))
        lowest = before[c] - (a - margin) / max(w, 1e-290)
        residual[c] = max(residual[c], lowest) if w > 0 and rho[c] > 0 else residual[c]


@kernel
def dual_rows(
    state, data, fidelity, chem, slope, reference_scale, scale, bounds, use_bounds, row, row_end, left,
    right, work, out,
):  # fmt: skip
    """Dual value of a band of rows, from column ``left`` to ``right``.

    Adds it to ``out[0]``, and for every element how far E'q is from the fields D p to ``out[1:]``.
    ``work`` is (2 E + 6, C) double. ``use_bounds``: leave r as it is, and all repair to the bounds.
    """
    elements, columns = data.counts.shape[0], right - left
    outflow, y = work[:elements], work[:elements, left:right]
    residual, before = work[elements, left:right], work[elements + 1, left:right]
    total, gain = work[elements + 2, left:right], work[elements + 3, left:right]
    columns_flow, rows_flow, above = work[elements + 4], work[elements + 5], work[elements + 6 :]
    curved = state.shape[0] > 3 * elements + 1
    value = 0.0
    for e in range(elements):
        if row > 0:
            dual_flow_row(state, data, e, row - 1, columns_flow, above[e])
            if curved:
                nearest_flow_row(data, e, row - 1, left, right, columns_flow, above[e])
        else:
            for c in range(above.shape[1]):
                above[e, c] = 0.0
    for r in range(row, row_end):
        weight_row = min(r, data.weights.shape[1] - 1)
        spread_row = min(r, data.spread.shape[1] - 1)
        for e in range(elements):
            dual_flow_row(state, data, e, r, columns_flow, rows_flow)
            if curved:
                if left > 0:
                    nearest_flow_row(data, e, r, left - 1, left, columns_flow, rows_flow)
                out[1 + e] += nearest_flow_row(data, e, r, left, right, columns_flow, rows_flow)
            outflow_rows(columns_flow, rows_flow, above[e], scale[e], outflow[e])
            for c in range(above.shape[1]):
                above[e, c] = rows_flow[c]
        rho = data.rho[0, min(r, data.rho.shape[1] - 1), left:right]
        target = data.target[0, r, left:right]
        start = state[state.shape[0] - 1, r, left:right]
        for c in range(columns):
            residual[c] = start[c] if rho[c] > 0 else 0.0
        if not use_bounds:
            for e in range(elements):
                if fidelity[e] == POISSON:
                    raise_residual(
                        y[e], data.counts[e, r, left:right],
                        data.weights[e, weight_row, left:right], rho, slope[e], residual,
                    )  # fmt: skip
            for _ in range(NEWTON_STEPS):
                for c in range(columns):
                    before[c] = residual[c]
                    total[c] = 0.0
                    gain[c] = 0.0
                for e in range(elements):
                    response_row(
                        y[e], data.counts[e, r, left:right], data.spread[e, spread_row, left:right],
                        data.weights[e, weight_row, left:right], rho, chem[e], slope[e],
                        fidelity[e], bounds[e], residual, total, gain,
                    )  # fmt: skip
                for c in range(columns):
                    gradient = residual[c] - rho[c] * (total[c] - target[c])
                    residual[c] -= gradient / (1.0 + rho[c] * gain[c])
                for e in range(elements):
                    if fidelity[e] == POISSON:
                        limit_decrease(
                            y[e], data.counts[e, r, left:right],
                            data.weights[e, weight_row, left:right], rho, slope[e],
                            before, residual,
                        )  # fmt: skip
        for c in range(columns):
            square = residual[c] * residual[c]
            # Where the HAADF image does not count, r is 0.
            cost = square / (2.0 * rho[c]) if rho[c] > 0 else 0.0
            value -= residual[c] * target[c] + cost
        for e in range(elements):
            value += dual_value_row(
                y[e], data.counts[e, r, left:right], data.spread[e, spread_row, left:right],
                data.weights[e, weight_row, left:right], rho, chem[e], slope[e], fidelity[e],
                bounds[e], use_bounds, residual,
            )  # fmt: skip
            if data.reference.shape[0] > 0:
                reference = data.reference[0, r, left:right]
                for c in range(columns):
                    value += y[e, c] * (reference_scale[e] * reference[c])
    out[0] += value


@kernel
def primal_rows(
    state, data, fidelity, chem, slope, reference_scale, ratio, row, row_end, left, right, work, out,
    largest,
):
    """Primal terms of a band of rows, and what the repair of the dual point needs.

    Only pixels from column ``left`` to ``right`` count; their neighbours are looked at.

    Adds HAADF term, likelihood as a divergence and regularization to ``out`` (3); raises ``largest``
    (2, E) to the largest value of measured and present maps, and norm of D (grad x - v) or v.
    """
    elements = data.counts.shape[0]
    x = state[:elements]
    curved = state.shape[0] > 3 * elements + 1
    v = state[3 * elements : 5 * elements] if curved else state[:0]
    first, second = work[0], work[1]
    for r in range(row, row_end):
        out[0] += haadf_row(data, x, r, left, right, first)
        for e in range(elements):
            out[1] += likelihood_row(
                x[e, r, left:right], data.counts[e, r, left:right],
                data.spread[e, min(r, data.spread.shape[1] - 1), left:right], chem[e], slope[e],
                fidelity[e],
            )  # fmt: skip
            variation, steepest = slope_norm_row(
                data, x, v, reference_scale[e], e, r, left, right, first, second
            )
            out[2] += variation
            if curved:
                out[2] += ratio * curvature_norm_row(data, v, e, r, left, right)
                for c in range(left, right):
                    a, b = np.float64(v[2 * e, r, c]), np.float64(v[2 * e + 1, r, c])
                    steepest = max(steepest, np.sqrt(a * a + b * b))
            largest[1, e] = max(largest[1, e], steepest)
            for c in range(left, right):
                value = max(np.float64(x[e, r, c]), np.float64(data.counts[e, r, c]))
                largest[0, e] = max(largest[0, e], value)


@dataclass(frozen=True)
class Certificate:
    """Terms of the objective, the likelihood as a divergence, and a bound on the optimum."""

    haadf: float
    divergence: float
    regularization: float
    dual: float

    @property
    def total(self):
        return self.haadf + self.divergence + self.regularization

    @property
    def gap(self):
        return self.total - self.dual


def _map_core(engine, core, function):
    """Results of ``function(first_row, end_row)`` for bands of the core's rows."""

    def rows(row, row_end):
        row, row_end = max(row, core[0]), min(row_end, core[1])
        return function(row, row_end) if row < row_end else None

    return [part for part in engine.map_rows(rows) if part is not None]


def primal_sums(engine, steps, core):
    """Terms of the objective, and what the repair of the dual point needs.

    Parameters
    ----------
    engine : TileEngine
    steps : Steps
    core : tuple of int
        (row, row_end, column, column_end) of the pixels that count.

    Returns
    -------
    sums : (3,) array
        HAADF term, divergence and regularization.
    largest : (2, E) array
        Value of measured and present maps, and norm of D (grad x - v) or v.
    """
    state, data = engine.state, engine.data
    elements, _, columns = data.counts.shape

    def rows(row, row_end):
        out, largest = np.zeros(3), np.zeros((2, elements))
        primal_rows(
            state, data, steps.fidelity, steps.chem.astype(float), steps.slope.astype(float),
            steps.reference_scale.astype(float), float(steps.curvature_ratio), row, row_end, core[2], core[3],
            np.empty((2, columns)), out, largest,
        )  # fmt: skip
        return out, largest

    parts = _map_core(engine, core, rows)
    return sum(out for out, _ in parts), np.max([largest for _, largest in parts], axis=0)


def dual_sum(engine, steps, core, scale, limits, use_bounds):
    """Dual value of the pixels of ``core``, the dual field of each element times ``scale`` (E,).

    ``limits`` (E,) bound the maps where ``use_bounds``, or where r cannot be raised.

    Returns
    -------
    value : float
        Of TGV without what the difference between the dual fields costs.
    apart : (E,) array
        That difference, the sum of abs(E'q - D p).
    """
    state, data = engine.state, engine.data
    elements, _, columns = data.counts.shape

    def rows(row, row_end):
        out = np.zeros(1 + elements)
        dual_rows(
            state, data, steps.fidelity, steps.chem.astype(float), steps.slope.astype(float),
            steps.reference_scale.astype(float), scale, limits, use_bounds, row, row_end, core[2], core[3],
            np.empty((2 * elements + 6, columns)), out,
        )  # fmt: skip
        return out

    value, *apart = sum(_map_core(engine, core, rows)).tolist()
    return value, np.array(apart)


def explaining_alone(weights, brightest):
    """Value (E,) with which each map alone would explain the brightest pixel of the HAADF image."""
    return np.where(weights > 0, max(float(brightest), 0.0) / np.where(weights > 0, weights, 1.0), 0.0)


def must_bound(data):
    """Whether there are pixels or elements where r cannot be raised."""
    return not data.rho.all() or any(not image.any() for image in data.weights)


def certify(engine, steps, bounds, with_dual=True):
    """Evaluate the state of a `TileEngine`, which must have just been advanced.

    Parameters
    ----------
    engine : TileEngine
    steps : Steps
    bounds : (E,) array or None
        Values that the optimal maps do not exceed, infinite where none is known.
    with_dual : bool, default True
        If False, only the objective is evaluated and its dual value is minus infinity.

    Returns
    -------
    Certificate
    """
    data = engine.data
    elements, rows, columns = data.counts.shape
    core = (0, rows, 0, columns)
    sums, (highest, steepest) = primal_sums(engine, steps, core)
    haadf, divergence, regularization = sums[:3].tolist()
    if not with_dual:
        return Certificate(haadf, divergence, regularization, -np.inf)
    weights = np.array([image.max() for image in data.weights], dtype=float)
    alone = explaining_alone(weights, data.target.max() if data.rho.any() else 0.0)
    # Counts alone ask for no more than this.
    highest = highest / np.minimum(steps.slope / steps.chem, 1.0)
    limits = np.where(np.isfinite(bounds), bounds, HIGHEST * np.maximum(highest, alone))

    def dual(scale, use_bounds=False):
        value, apart = dual_sum(engine, steps, core, scale, limits, use_bounds)
        return value - float((apart * STEEPEST * steepest).sum())

    scale, total = np.full(elements, ROUNDING), haadf + divergence + regularization
    best = max(dual(scale), 0.0)
    if ((weights > 0) & (weights < FAINT * weights.max())).any():
        best = max(best, dual(scale, True))
    if must_bound(data) and total > 0:
        best = max(best, dual(scale * (1.0 - SHRINKAGE * (1.0 - best / total))))
    # All three terms are sums of squares, divergences and norms.
    return Certificate(haadf, divergence, regularization, best)
