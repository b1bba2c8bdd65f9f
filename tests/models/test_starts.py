"""Where a fit starts: named in the provenance, and without a say in the solution."""

import numpy as np
import pytest
from plain import PLAIN

import hyperspy_fusedmm as fmm


@pytest.fixture(scope="module")
def particles():
    return fmm.data.core_shell_particles(shape=(80, 96), dose=1.0)


@pytest.fixture
def model(particles):
    return particles.maps.create_model(particles.haadf, sensitivities=particles.sensitivities)


def fit(model, **options):
    """Fit with nothing to be chosen from the data."""
    model.fit(**{**PLAIN, **options})


def start_of(model):
    return model.fused.metadata.FusedMultiModal.initial


def check_same_optimum(model, other):
    bound = model.gap + other.gap
    total = other.objective()["total"]
    assert model.objective()["total"] == pytest.approx(total, abs=1.01 * bound + 1e-6 * abs(total))
    difference = abs(model.fused.data - other.fused.data).mean(axis=(1, 2))
    assert (difference < 0.01 * other.fused.data.mean(axis=(1, 2))).all()


def fitted(particles, **options):
    """A model that knows nothing of fits before."""
    model = particles.maps.create_model(particles.haadf, sensitivities=particles.sensitivities)
    fit(model, **options)
    return model


class TestStarts:
    @pytest.mark.parametrize("initial", ["measured", "multiresolution", "given"])
    def test_the_start_does_not_change_the_solution(self, model, particles, initial):
        start = particles.maps * 0 + 2.0 if initial == "given" else initial
        fit(model, initial=start, tolerance=1e-5, max_iterations=5000)
        assert start_of(model) == initial
        check_same_optimum(model, fitted(particles, tolerance=1e-5, max_iterations=5000))

    def test_the_first_fit_starts_from_the_measured_maps(self, model):
        fit(model, tolerance=0, max_iterations=2)
        assert start_of(model) == "measured"
        total = model.objective(model.maps)["total"]
        fit(model, initial="measured", tolerance=1e-2)
        assert model.history["total"][0] == pytest.approx(total, rel=1e-5)

    def test_given_maps_are_where_it_starts(self, model):
        start = np.full((3, 80, 96), 2.0)
        fit(model, initial=start, tolerance=1e-2)
        assert model.history["total"][0] == pytest.approx(model.objective(start)["total"], rel=1e-5)

    def test_coarse_maps_are_closer(self, model):
        first = []
        for initial in ("measured", "multiresolution"):
            fit(model, initial=initial, tolerance=1e-3)
            first.append(model.history["total"][0] - model.objective()["total"])
        assert first[1] < 0.1 * first[0]


class TestNextFit:
    def test_it_goes_on_after_small_changes(self, model, particles):
        fit(model)
        strength = 1.1 * model.lambda_tv
        fit(model, lambda_tv=strength, lambda_haadf=0.95)
        assert start_of(model) == "last fit"
        other = fitted(particles, lambda_tv=strength, lambda_haadf=0.95)
        assert start_of(other) == "measured"
        assert model.iterations < 0.75 * other.iterations
        assert model.converged and other.converged
        check_same_optimum(model, other)

    def test_a_path_costs_less_than_separate_fits(self, model, particles):
        fit(model)
        strengths = model.lambda_tv * 1.15 ** np.arange(1, 6)[:, np.newaxis]
        together = separately = 0
        for strength in strengths:
            fit(model, lambda_tv=strength)
            together += model.iterations
            separately += fitted(particles, lambda_tv=strength).iterations
        assert together < 0.75 * separately

    def test_where_nothing_changed_there_is_next_to_nothing_to_do(self, model):
        fit(model)
        found = model.fused.data
        fit(model)
        # The gap of the first fit is to the best of its bounds, which may not be the last one.
        assert model.iterations <= 20 and model.converged
        np.testing.assert_allclose(model.fused.data, found, atol=0.01 * found.max())

    @pytest.mark.parametrize(
        "options",
        [
            {"lambda_tv": 0.01},
            {"lambda_tv": 0},
            {"lambda_haadf": 2.0},
            {"lambda_chem": 3.0},
            {"regularization": "tgv"},
            {"initial": "measured"},
        ],
    )
    def test_it_starts_anew_after_other_changes(self, model, options):
        fit(model, lambda_tv=0.3, tolerance=1e-2)
        fit(model, **{"lambda_tv": 0.3, "tolerance": 1e-2, **options})
        assert start_of(model) == "measured"

    def test_other_weights_per_pixel_and_guide_go_on_too(self, model, particles):
        for options in ({"guided": True}, {"regularization_weights": "pilot"}):
            fit(model, lambda_tv=0.3)
            fit(model, lambda_tv=0.3, **options)
            assert start_of(model) == "last fit"
            check_same_optimum(model, fitted(particles, lambda_tv=0.3, **options))

    def test_maps_cropped_since_start_anew(self, particles):
        maps = particles.maps.deepcopy()
        model = maps.create_model()
        fit(model, tolerance=1e-2)
        maps.crop("x", 0, 40)
        fit(model, tolerance=1e-2)
        assert start_of(model) == "measured"
        assert model.fused.data.shape == (3, 80, 40)

    def test_a_restored_model_starts_anew(self, model, particles):
        maps = particles.maps.deepcopy()
        model = maps.create_model(particles.haadf, sensitivities=particles.sensitivities)
        fit(model, tolerance=1e-2)
        model.store("mine")
        restored = maps.models.restore("mine")
        fit(restored, tolerance=1e-2)
        assert start_of(restored) == "measured"

    def test_an_interrupted_fit_leaves_where_to_go_on(self, model, monkeypatch):
        from hyperspy_fusedmm.models import fitting

        fit(model, tolerance=1e-3)

        def interrupt(*args, **kwargs):
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(fitting, "solve", interrupt)
            with pytest.raises(KeyboardInterrupt):
                fit(model, lambda_tv=5.0)
        fit(model, tolerance=1e-3)
        assert (start_of(model), model.iterations) == ("last fit", 0)


class TestPowerModel:
    @pytest.fixture(scope="class")
    def specimen(self):
        return fmm.data.core_shell_particles(shape=(80, 96), dose=2.0, forward="power")

    def make(self, specimen, **options):
        return specimen.maps.create_model(
            specimen.haadf,
            forward="power",
            gamma=specimen.gamma,
            weights=specimen.weights,
            haadf_offset=specimen.haadf_offset,
            haadf_noise=specimen.haadf_noise,
            **options,
        )

    @pytest.mark.parametrize("initial", ["auto", "measured", "multiresolution"])
    def test_it_ends_at_a_stationary_point(self, specimen, initial):
        model = self.make(specimen)
        options = {"tolerance": 2e-3, "max_iterations": 3000, "regularization_weights": "pilot"}
        fit(model, initial=initial, **options)
        assert model.converged and 0 <= model.stationarity <= 2e-3
        assert np.isnan([model.gap, model.relative_gap]).all()
        assert start_of(model) == {"auto": "linear model"}.get(initial, initial)
        told = model.fused.metadata.FusedMultiModal
        assert told.stationarity == model.stationarity
        assert set(model.history) == {
            "iteration", "haadf", "chem", "tv", "total", "stationarity",
        }  # fmt: skip
        assert (np.diff(model.history["total"]) <= 1e-6 * abs(model.history["total"][-1])).all()
        error, before = (
            np.sqrt(((x - specimen.truth.data) ** 2).mean(axis=(1, 2)))
            for x in (model.fused.data, specimen.maps.data)
        )
        assert (error < 0.6 * before).all()
        assert model.plot_convergence() is not None

    def test_fits_do_not_depend_on_fits_before(self, specimen):
        model = self.make(specimen)
        fit(model, tolerance=1e-3)
        first = model.fused.data
        fit(model, tolerance=1e-3, lambda_haadf=0.9)
        fit(model, tolerance=1e-3)
        np.testing.assert_array_equal(model.fused.data, first)

    def test_a_tolerance_that_was_not_reached_is_warned_of(self, specimen):
        model = self.make(specimen)
        with pytest.warns(UserWarning, match="stationarity residual is .*stationary point"):
            fit(model, tolerance=1e-9, max_iterations=20)
        assert not model.converged

    @pytest.mark.parametrize("guided", [False, True])
    @pytest.mark.parametrize("regularization", ["tv", "tgv"])
    def test_regularizers_and_mixed_likelihoods(self, specimen, regularization, guided):
        model = self.make(specimen, fidelity={"S": "gaussian"}, noise={"S": 1.5})
        fit(model, regularization=regularization, guided=guided, tolerance=0, max_iterations=300)
        assert (model.regularization, model.guided) == (regularization, guided)
        assert model.fidelity == ["poisson", "gaussian", "poisson"]
        history = model.history["total"]
        assert history[-1] < history[0] and np.isfinite(history).all()
        error, before = (
            np.sqrt(((x - specimen.truth.data) ** 2).mean(axis=(1, 2)))
            for x in (model.fused.data, specimen.maps.data)
        )
        assert (error < 0.8 * before).all()


class TestGradientDescent:
    def test_counts_that_its_steps_do_not_suit_are_told(self, small):
        model = small.maps.create_model(small.haadf, background=0.3, **small.scale)
        with pytest.warns(UserWarning, match="gradient descent raised the objective"):
            model.fit(solver="gradient-descent")
        assert not model.converged

    def test_it_runs_on_counts_where_its_steps_are_short_enough(self, small, recwarn):
        model = small.maps.create_model(background=2.0)
        model.fit(solver="gradient-descent", max_iterations=100)
        assert not [w for w in recwarn if "solver" in str(w.message)]
        published, history = model.objective()["total"], model.history["total"]
        assert published == pytest.approx(history[-1], rel=1e-6)
        assert published < history[0]
        fit(model)
        assert start_of(model) == "measured"
        assert model.objective()["total"] < published

    def test_it_knows_total_variation_only(self, small):
        model = small.maps.create_model()
        with pytest.raises(ValueError, match="regularization: found 'tgv' with solver='gradient"):
            model.fit(solver="gradient-descent", regularization="tgv")
        with pytest.raises(ValueError, match="tv_iterations: found 3, but solver='primal-dual'"):
            model.fit(tv_iterations=3)
