import os
import subprocess
import sys

import hyperspy.api as hs
import numpy as np
import pytest
from matplotlib.image import imread

import hyperspy_fusedmm as fmm
from hyperspy_fusedmm import __main__ as command

FILES = [command.FUSED_FILE, command.CONVERGENCE_FILE, command.MAPS_FILE]


@pytest.fixture
def small(monkeypatch):
    """The example at a size that takes no time."""
    monkeypatch.setitem(command.EXAMPLE, "shape", (40, 48))


def test_main_job_ends_in_files_and_a_table(small, tmp_path, capsys):
    folder = tmp_path / "new" / "results"
    assert command.main(["-o", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)

    output, progress = capsys.readouterr()
    assert "Fusing" in progress
    lines = [line.split() for line in output.splitlines()]
    start = next(i for i, line in enumerate(lines) if line[:1] == ["Element"])
    assert [line[0] for line in lines[start + 1 : start + 4]] == ["Co", "S", "O"]
    for name in FILES:
        assert str(folder / name) in output

    fused = hs.load(folder / command.FUSED_FILE)
    assert isinstance(fused, fmm.ElementMaps)
    assert fused.elements == ["Co", "S", "O"]
    assert fused.data.shape == (3, 40, 48)
    assert fused.axes_manager.signal_axes[0].units == "nm"
    for name in FILES[1:]:
        image = imread(folder / name)
        assert min(image.shape[:2]) > 300
        assert image[..., :3].std() > 0.05


def test_fusion_helps_every_element(small):
    recording = command.record_example()
    fused, _ = command.fuse(recording)
    for row in command.accuracies(recording.expected, recording.maps, fused):
        assert row.snr_gain > 1, row


def test_earlier_results_are_replaced(small, tmp_path, monkeypatch):
    monkeypatch.setitem(command.EXAMPLE, "shape", (16, 20))
    for name in FILES:
        (tmp_path / name).write_text("earlier")
    assert command.main(["-o", str(tmp_path)]) == 0
    assert all((tmp_path / name).stat().st_size > 1000 for name in FILES)
    assert sorted(os.listdir(tmp_path)) == sorted(FILES)


def test_example_is_what_exspy_extracts_in_counts(small):
    recording = command.record_example()
    assert recording.maps.elements == ["Co", "S", "O"]
    np.testing.assert_array_equal(recording.maps.data, np.round(recording.maps.data))
    for counts, expected in zip(recording.maps.data, recording.expected):
        assert abs(counts.sum() - expected.sum()) < 4 * np.sqrt(expected.sum())
    assert set(recording.options) == {"sensitivities"}


def test_accuracy_is_relative_to_the_truth():
    expected = np.full((1, 4, 4), 2.0)
    raw = fmm.element_maps({"Co": expected[0] + 1})
    fused = fmm.element_maps({"Co": expected[0] - 0.25})
    (row,) = command.accuracies(expected, raw, fused)
    assert row.element == "Co"
    assert row.counts == 3
    assert row.error_before == pytest.approx(0.5)
    assert row.error_after == pytest.approx(0.125)
    assert row.snr_gain == pytest.approx(4)
    assert command.Accuracy("Co", 1.0, 0.5, 0.0).snr_gain == np.inf


def test_table_is_aligned():
    rows = [command.Accuracy("Co", 12.345, 0.5, 0.1), command.Accuracy("O", 0.3, 2.0, 0.4)]
    head, cobalt, oxygen = command.table(rows).splitlines()
    assert len(head) == len(cobalt) == len(oxygen)
    assert cobalt.split() == ["Co", "12.35", "50.0", "%", "10.0", "%", "5.0", "x"]
    assert oxygen.split() == ["O", "0.30", "200.0", "%", "40.0", "%", "5.0", "x"]


def test_folder_that_is_a_file_is_an_error_before_any_work(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(command, "record_example", lambda: pytest.fail("work was begun"))
    (tmp_path / "taken").write_text("")
    assert command.main(["-o", str(tmp_path / "taken")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: cannot write to the folder")
    assert str(tmp_path / "taken") in error and "-o DIR" in error


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="everything is writable for root"
)
def test_folder_that_cannot_be_written_to_is_an_error(tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert command.main(["-o", str(tmp_path)]) == 1
    assert "Permission denied" in capsys.readouterr().err


def test_interrupted_run_leaves_nothing(tmp_path, capsys, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "record_example", interrupt)
    assert command.main(["-o", str(tmp_path)]) == 130
    assert list(tmp_path.iterdir()) == []


def test_half_written_files_do_not_stay(tmp_path):
    (tmp_path / "result.txt").write_text("earlier")
    with pytest.raises(RuntimeError), command.replacing(tmp_path / "result.txt") as path:
        path.write_text("half")
        assert path.parent == tmp_path and path.suffix == ".txt"
        raise RuntimeError
    assert [p.name for p in tmp_path.iterdir()] == ["result.txt"]
    assert (tmp_path / "result.txt").read_text() == "earlier"
    with command.replacing(tmp_path / "result.txt") as path:
        path.write_text("whole")
    assert (tmp_path / "result.txt").read_text() == "whole"


def test_help_says_what_it_does():
    shown = subprocess.run(
        [sys.executable, "-m", "hyperspy_fusedmm", "--help"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert shown.returncode == 0
    for part in ("-o DIR", "core-shell", *FILES, "./fusedmm-example"):
        assert part in " ".join(shown.stdout.split())


def test_unknown_arguments_are_refused():
    with pytest.raises(SystemExit) as stop:
        command.main(["--nonsense"])
    assert stop.value.code == 2
