"""The primal-dual iteration written once more, in plain NumPy and double precision."""

import numpy as np

from hyperspy_fusedmm.solver._step_fields import LARGEST_RELATIVE, SMALLEST_RELATIVE
from hyperspy_fusedmm.solver.operators import (
    adjoint_gradient,
    adjoint_symmetrized_gradient,
    gradient,
    remove_guided,
    symmetrized_gradient,
)

# Enough, from any start, for the root to rounding.
NEWTON_STEPS = 40


def joint_prox(forward, counts, spread, weights, target, rho, fidelity, chem, loss, step, residual):
    """Joint prox of HAADF term, likelihood and x >= 0 at every pixel; all (E, R, C) or (R, C)."""

    def response(e, r):
        if fidelity[e] == 0:
            linear = forward[e] + spread[e] - step[e] * (loss[e] + weights[e] * r)
            root = np.sqrt(linear**2 + 4 * step[e] * chem[e] * counts[e])
            z = (linear + root) / 2
            with np.errstate(invalid="ignore", divide="ignore"):
                slope = np.where(root > 0, weights[e] * step[e] * z / root, 0)
            x = z - spread[e]
        else:
            pull = step[e] * chem[e] * spread[e]
            x = (forward[e] + pull * counts[e] - step[e] * weights[e] * r) / (1 + pull)
            slope = weights[e] * step[e] / (1 + pull)
        return np.maximum(x, 0), np.where(x > 0, slope, 0)

    r = residual.copy()
    for _ in range(NEWTON_STEPS):
        total, derivative = 0.0, 0.0
        for e in range(len(forward)):
            x, slope = response(e, r)
            total = total + weights[e] * x
            derivative = derivative + weights[e] * slope
        r = r - (r - rho * (total - target)) / (1 + rho * derivative)
    return np.stack([response(e, r)[0] for e in range(len(forward))]), r


def _project(field, radius):
    norm = np.sqrt((field**2).sum(axis=1, keepdims=True))
    return field * np.minimum(1, radius[:, None] / np.maximum(norm, 1e-300))


def step_fields(steps, strength, curved):
    """Step sizes (E, R, C) of diagonal preconditioning scaled by d = (strength / typical)^-2."""
    relative = strength / np.asarray(steps.typical_strength, float)[:, None, None]
    d = np.clip(relative, SMALLEST_RELATIVE, LARGEST_RELATIVE) ** -2.0
    right, below, left, above = d.copy(), d.copy(), d.copy(), d.copy()
    right[:, :, :-1], below[:, :-1] = d[:, :, 1:], d[:, 1:]
    left[:, :, 1:], above[:, 1:] = d[:, :, :-1], d[:, :-1]
    balance = np.asarray(steps.balance, float)[:, None, None]
    unit = float(steps.slope_unit) if curved else 0.0
    primal = balance * d / 4
    dual = 1 / (balance * (d * (1 + unit) + np.maximum(right, below)))
    if not curved:
        return primal, dual, None, None
    slope = balance * unit * d / (3 + np.sqrt(2))
    largest = np.maximum(d, np.maximum(left, above))
    return primal, dual, slope, 1 / (balance * unit * largest * 2 * np.sqrt(2))


def iterate(state, data, steps, iterations, regularization):
    """What the tile kernels compute; ``data`` are full arrays, ``state`` as theirs."""
    counts, spread, strength, weights, target, rho, guide, anchor, pull, reference = (
        np.asarray(a, dtype=float) for a in data
    )
    elements, shape = counts.shape[0], counts.shape[1:]
    spread, strength, weights = (
        np.broadcast_to(a, counts.shape) for a in (spread, strength, weights)
    )
    target, rho = target[0], np.broadcast_to(rho[0], shape)
    guide = guide if len(guide) else None
    state = np.asarray(state, dtype=float).copy()
    x = state[:elements]
    p = state[elements : 3 * elements].reshape((elements, 2) + shape)
    r = state[-1]
    curved = regularization == "tgv"
    primal, dual, primal_slope, dual_curvature = step_fields(steps, strength, curved)
    prox, share = primal, 0.0
    if len(anchor):
        share = primal * float(steps.nearness) * pull
        share = share / (1 + share)
        prox = primal * (1 - share)
    if curved:
        v = state[3 * elements : 5 * elements].reshape((elements, 2) + shape)
        q = state[5 * elements : 8 * elements].reshape((elements, 3) + shape)
        real = np.ones((2,) + shape)
        real[0, :, -1] = 0
        real[1, -1, :] = 0
    for k in range(iterations):
        relaxation = float(steps.relaxation) if k < iterations - 1 else 1.0
        flow = remove_guided(p, guide)
        forward = x - primal * adjoint_gradient(flow)
        if len(anchor):
            forward = forward + share * (anchor - forward)
        x_hat, r = joint_prox(
            forward, counts, spread, weights, target, rho, steps.fidelity, steps.chem,
            steps.slope, prox, r,
        )  # fmt: skip
        point = 2 * x_hat - x
        if len(reference):
            point = point - np.asarray(steps.reference_scale, float)[:, None, None] * reference
        slope = gradient(point)
        if curved:
            v_hat = v + primal_slope[:, None] * (flow - adjoint_symmetrized_gradient(q))
            v_hat *= real
            v_bar = 2 * v_hat - v
            slope = slope - v_bar
            ascent = q + dual_curvature[:, None] * symmetrized_gradient(v_bar)
            q_hat = _project(ascent, float(steps.curvature_ratio) * strength)
            v += relaxation * (v_hat - v)
            q += relaxation * (q_hat - q)
        p_hat = _project(p + dual[:, None] * remove_guided(slope, guide), strength)
        x += relaxation * (x_hat - x)
        p += relaxation * (p_hat - p)
    parts = [x, p.reshape((2 * elements,) + shape)]
    if curved:
        parts += [v.reshape((2 * elements,) + shape), q.reshape((3 * elements,) + shape)]
    return np.concatenate(parts + [r[None]])
