"""Memory and time to read element maps from large Velox files, beside RosettaSciIO.

Every case runs in a process of its own, so that its peak is its own. Files are written to
a folder and removed at the end:

    python benchmarks/velox.py --events 1e7
    python benchmarks/velox.py --events 1e8 1e9 --folder /tmp
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time

CASES = {
    "load_velox": "load_velox, maps and HAADF",
    "rosettasciio": "RosettaSciIO eager, spectrum image",
    "exspy": "  the same, then get_lines_intensity",
    "rosettasciio-lazy": "RosettaSciIO lazy, then get_lines_intensity",
    "fuse": "load_velox, fuse, save",
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--events", type=float, nargs="+", default=[1e7])
    parser.add_argument("--shape", type=int, nargs=2, default=[512, 512], metavar=("R", "C"))
    parser.add_argument("--frames", type=int, default=20)
    parser.add_argument("--detectors", type=int, default=4)
    parser.add_argument("--folder", default=None, help="where the files are written")
    parser.add_argument(
        "--lazy-up-to", type=float, default=2e7, help="events RosettaSciIO is asked to read lazily"
    )
    parser.add_argument("--fuse", action="store_true", help="also fuse and save")
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(run_case(arguments.case, arguments.path)))
        return
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores, ", end="")
    print(
        f"{arguments.shape[0]} x {arguments.shape[1]} pixels, {arguments.frames} frames, ", end=""
    )
    print(f"{arguments.detectors} detectors\n")
    print("| events | file | case | peak | of it above import | time |")
    print("|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        warm_up(folder)
        for n_events in arguments.events:
            path = os.path.join(folder, "large.emd")
            write(path, n_events, arguments.shape, arguments.frames, arguments.detectors)
            compare(path, n_events, arguments)
            os.remove(path)


def write(path, n_events, shape, n_frames, n_detectors):
    import hyperspy_fusedmm as fmm

    specimen = fmm.data.core_shell_particles(shape=tuple(shape))
    fmm.data.write_velox(
        path,
        specimen,
        n_frames=n_frames,
        n_detectors=n_detectors,
        n_events=n_events,
        show_progressbar=False,
    )


def warm_up(folder):
    """Compile what is compiled once and kept, of both readers."""
    path = os.path.join(folder, "small.emd")
    write(path, 1e4, (16, 16), 1, 1)
    for case in ("load_velox", "exspy", "rosettasciio-lazy"):
        start(case, path)


def compare(path, n_events, arguments):
    size = os.path.getsize(path) / 1e6
    cases = ["load_velox", "rosettasciio", "exspy"]
    if n_events <= arguments.lazy_up_to:
        cases.append("rosettasciio-lazy")
    if arguments.fuse:
        cases.append("fuse")
    totals = set()
    for case in cases:
        result = start(case, path)
        if "error" in result:
            outcome = f"{result['error']} | | "
        else:
            above = result["peak"] - result["imported"]
            outcome = f"{result['peak'] / 1e6:.0f} MB | {above / 1e6:.0f} MB | "
            outcome += f"{result['seconds']:.1f} s"
            if result["counts"] is not None:
                totals.add(result["counts"])
        print(f"| {n_events:.0e} | {size:.0f} MB | {CASES[case]} | {outcome} |", flush=True)
    if len(totals) > 1:
        raise SystemExit(f"the counts in the maps differ: {totals}")


def start(case, path):
    command = [sys.executable, __file__, "--case", case, "--path", path]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return {"error": f"failed ({done.returncode}): {last[0]}"}
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_case(case, path):
    """Run one case in this process; its peak memory, and what importing took of it."""
    # Everything that either reader imports, also what it would import only when it is used.
    import exspy.signals
    import hyperspy.api as hs
    import rsciio.emd  # noqa: F401
    import sparse  # noqa: F401

    import hyperspy_fusedmm as fmm

    exspy.signals.EDSTEMSpectrum, fmm.load_velox, fmm.ElementMaps
    hs.preferences.General.show_progressbar = False
    hs.set_log_level("ERROR")
    before = peak_memory()
    begin = time.perf_counter()
    counts = None
    if case in ("load_velox", "fuse"):
        maps, haadf = fmm.load_velox(path)
        counts = float(maps.data.sum())
        if case == "fuse":
            fused = maps.fuse(haadf)
            fused.save(os.path.join(os.path.dirname(path), "fused.hspy"), overwrite=True)
    else:
        lazy = case == "rosettasciio-lazy"
        cube = hs.load(path, select_type="spectrum_image", lazy=lazy)
        cube = cube[-1] if isinstance(cube, list) else cube
        if case != "rosettasciio":
            maps = cube.get_lines_intensity()
            if lazy:
                for signal in maps:
                    signal.compute()
            counts = float(sum(signal.data.sum() for signal in maps))
    seconds = time.perf_counter() - begin
    return {"peak": peak_memory(), "imported": before, "seconds": seconds, "counts": counts}


def peak_memory():
    """Largest resident memory of this process so far, in bytes."""
    try:
        # Of this program; what getrusage tells on Linux includes the process it was started from.
        with open("/proc/self/status") as status:
            for line in status:
                if line.startswith("VmHWM"):
                    return 1024 * int(line.split()[1])
    except OSError:
        pass
    import resource

    factor = 1 if sys.platform == "darwin" else 1024
    return factor * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
