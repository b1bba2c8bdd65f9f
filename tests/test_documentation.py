"""What README and documentation say: examples run, names exist, numbers are those of this version."""

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import exspy
import hyperspy.api as hs
import numpy as np
import pytest
import yaml

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm import __main__ as command

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
DOCS = ROOT / "docs"
# Names of the solver are listed by Sphinx itself.
LISTED_MODULES = ("hyperspy_fusedmm", "hyperspy_fusedmm.data", "hyperspy_fusedmm.drawing")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """Examples write files to where they run."""
    monkeypatch.chdir(tmp_path)
    level = hs.preferences.General.logging_level
    hs.set_log_level("ERROR")  # HyperSpy logs to the standard output, among what examples print
    yield tmp_path
    hs.set_log_level(level)


def readme_section(title):
    return re.search(rf"^## {title}\n(.*?)(?=^## |\Z)", README, re.M | re.S)[1]


def readme_blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, re.S)


def run(code):
    """What a script leaves behind."""
    namespace = {}
    exec(compile(code, "README.md", "exec"), namespace)
    return namespace


@pytest.mark.filterwarnings("ignore:weights")
def test_edx_example_of_the_readme():
    specimen = fmm.data.core_shell_particles(shape=(32, 32), dose=3, spectrum_image=True)
    specimen.spectrum.save("spectrum_image.hspy")
    specimen.haadf.save("haadf.hspy")
    (code,) = readme_blocks("python", readme_section("EDX"))
    # The specimen holds other elements than the example names.
    code = re.sub(r'"Si_Ka", "O_Ka", "C_Ka"', '"Co_Ka", "S_Ka", "O_Ka"', code)
    fused = run(code)["fused"]
    assert fused.elements == ["Co", "S", "O"]
    assert hs.load("fused.hspy").data.shape == (3, 32, 32)


def test_edx_example_of_the_readme_on_recorded_data(real_data):
    hs.load(real_data("sio2/sio2_eds.hspy")).inav[32:96, 32:96].save("spectrum_image.hspy")
    hs.load(real_data("sio2/sio2_haadf.hspy")).isig[32:96, 32:96].save("haadf.hspy")
    (code,) = readme_blocks("python", readme_section("EDX"))
    fused = run(code)["fused"]
    assert fused.elements == ["Si", "O", "C"]
    assert fused.metadata.FusedMultiModal.converged


def eels_spectrum_image(specimen):
    """Oxygen K and cobalt L edges of a specimen on a power-law background."""
    energy = np.arange(400.0, 900.0)
    background = 30 * (energy / 400) ** -3.0
    edges = {"O": 0.1 * (energy > 532), "Co": 0.02 * (energy > 779)}
    expected = background + sum(
        specimen.truth.get_map(element).data[..., None] * edge for element, edge in edges.items()
    )
    spectrum = exspy.signals.EELSSpectrum(np.random.default_rng(0).poisson(expected))
    loss = spectrum.axes_manager.signal_axes[0]
    loss.name, loss.units, loss.offset = "Energy loss", "eV", 400.0
    for axis in spectrum.axes_manager.navigation_axes:
        axis.scale, axis.units = 0.5, "nm"
    return spectrum


@pytest.mark.filterwarnings("ignore:weights")
def test_eels_example_of_the_readme():
    specimen = fmm.data.core_shell_particles(shape=(32, 32), dose=30)
    eels_spectrum_image(specimen).save("eels.hspy")
    specimen.haadf.save("haadf.hspy")
    (code,) = readme_blocks("python", readme_section("EELS"))
    namespace = run(code)
    fused, measured = namespace["fused"], fmm.element_maps(namespace["maps"])
    assert fused.elements == ["O", "Co"]
    assert fused.metadata.FusedMultiModal.fidelity == ["gaussian", "gaussian"]
    for element in fused.elements:
        truth = specimen.truth.get_map(element).data.ravel()
        before, after = (
            np.corrcoef(maps.get_map(element).data.ravel(), truth)[0, 1]
            for maps in (measured, fused)
        )
        assert after > max(before, 0.7), element


def test_examples_of_the_readme_take_ten_lines():
    for title in ("EDX", "EELS"):
        (code,) = readme_blocks("python", readme_section(title))
        assert len([line for line in code.splitlines() if line.strip()]) <= 10


def test_two_commands_set_everything_up():
    commands = [block.strip() for block in readme_blocks("bash", readme_section("Run it"))]
    assert len(commands) == 2 and all("\n" not in command for command in commands)
    job, tests = commands
    for line in commands:
        assert line.startswith("python3 -m venv .venv && .venv/bin/python -m pip install ")
    assert job.endswith("-m hyperspy_fusedmm")
    assert tests.endswith("-m pytest")


def test_table_of_the_readme_is_what_the_main_job_prints():
    (shown,) = readme_blocks("text", readme_section("Run it"))
    recording = command.record_example()
    fused = recording.maps.fuse(recording.haadf, **recording.options)
    printed = command.table(command.accuracies(recording.expected, recording.maps, fused))

    def cells(table):
        return [line.replace("%", "").replace(" x", "").split() for line in table.split("\n")[1:]]

    message = f"README.md shows another table than the main job prints, which is\n{printed}"
    for old, new in zip(cells(shown.strip()), cells(printed), strict=True):
        assert old[0] == new[0], message
        np.testing.assert_allclose(
            np.array(old[1:], float), np.array(new[1:], float), rtol=0.1, err_msg=message
        )


def test_figure_of_the_readme_is_small():
    (figure,) = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert (ROOT / figure).stat().st_size < 300_000


def pages_with_examples():
    return sorted(p.name for p in DOCS.glob("*.rst") if ">>> " in p.read_text(encoding="utf-8"))


@pytest.mark.filterwarnings("ignore:weights")
@pytest.mark.parametrize("page", pages_with_examples())
def test_examples_of_the_documentation(page):
    result = doctest.testfile(str(DOCS / page), module_relative=False)
    assert result.attempted and not result.failed


def modules_with_examples():
    found = [m.name for m in pkgutil.walk_packages(fmm.__path__, "hyperspy_fusedmm.")]
    sources = {name: ROOT / (name.replace(".", "/") + ".py") for name in found}
    return [
        n for n, path in sources.items() if path.is_file() and ">>> " in path.read_text("utf-8")
    ]


@pytest.mark.filterwarnings("ignore:weights")
@pytest.mark.parametrize("name", modules_with_examples())
def test_examples_of_docstrings(name):
    result = doctest.testmod(importlib.import_module(name))
    assert result.attempted and not result.failed


def test_reference_lists_every_public_name():
    listed = set(re.findall(r"^   ([\w.]+)$", (DOCS / "reference.rst").read_text("utf-8"), re.M))
    public = {
        name
        for module in map(importlib.import_module, LISTED_MODULES)
        for name in module.__all__
        if name not in ("__version__", "data")
    }
    missing = sorted(public - listed)
    assert not missing, f"docs/reference.rst has no line for {', '.join(missing)}"


def test_reference_lists_nothing_else():
    module = importlib.import_module("hyperspy_fusedmm.solver")  # now an attribute of the package
    for line in (DOCS / "reference.rst").read_text("utf-8").splitlines():
        if line.startswith(".. currentmodule::"):
            module = importlib.import_module(line.split()[-1])
        elif re.fullmatch(r"   [\w.]+", line):
            assert hasattr(module, line.strip())


def test_every_page_is_reached():
    pages = {path.stem: path.read_text("utf-8") for path in DOCS.glob("*.rst")}
    reached = set(re.findall(r"^   ([a-z_]+)$", "\n".join(pages.values()), re.M))
    assert not set(pages) - {"index"} - reached


def test_versions_agree():
    project = re.search(r'^version = "(.*)"', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)[1]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGES.md").read_text("utf-8"), re.M)[1]
    assert {project, str(citation["version"]), newest} == {fmm.__version__}


def test_scripts_of_the_documentation_are_python():
    for path in DOCS.glob("*.py"):
        ast.parse(path.read_text("utf-8"))
    subprocess.run([sys.executable, "-m", "compileall", "-q", str(DOCS / "conf.py")], check=True)
