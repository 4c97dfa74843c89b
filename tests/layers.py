"""Folders are layers: a file includes its own layer and strictly lower ones, each third party has its fence, and so has
the wall clock.

Run as a script it prints what is wrong; tests/test_layers.py runs it.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
RANK = {"base": 0, "comm": 1, "store": 1, "text": 1, "objective": 1, "model": 2, "generate": 3, "reward": 3, "train": 4,
        "cli": 5, "main": 6}
# Third party -> the files that may include it, as patterns below include/vbon or src.
FENCES = {
    r"mpi\.h$": r"comm/",
    r"nccl\.h$": r"comm/",
    r"hdf5\.h$": r"store/hdf5_call\.hpp$",
    r"yaml-cpp/": r"cli/yaml_node\.cpp$",
    r"CLI/": r"cli/",
    r"spdlog/": r"base/log\.cpp$",
    r"(ATen|torch|c10)/": r"(objective|model|generate|reward|train)/",
    r"torch/torch\.h$": r"nowhere",  # 18 s a file: include the narrowest header that serves
}
# The wall clock jumps (time servers, suspended machines): it dates things, and decides nothing but how far
# the end of an allocation is.
WALL_CLOCK = re.compile(r"system_clock|high_resolution_clock|gettimeofday|CLOCK_REALTIME|utc_clock|(?:\bstd|(?<![\w>]))::time\s*\(|"
                        r"\btime\s*\(\s*(?:nullptr|NULL|0)\s*\)|\bMPI_Wtime\b|last_write_time|st_[mca]tim")
MAY_READ_IT = {"base/files.cpp": "utc_now()", "store/run_folder.cpp": "a new run's id",
               "base/time_limit.cpp": "the end of an allocation is told by it"}
INCLUDE = re.compile(r'^\s*#\s*include\s+["<]([^">]+)[">]', re.M)


def layer_of(include):
    parts = include.split("/")
    if parts[0] == "vbon" and len(parts) > 2:
        return parts[1]
    return parts[0] if parts[0] in RANK and len(parts) > 1 else None


def violations():
    found = []
    for base in (ROOT / "include/vbon", ROOT / "src"):
        for path in sorted(base.rglob("*")):
            if path.suffix not in {".hpp", ".cpp", ".cu", ".cuh"}:
                continue
            name = path.relative_to(base).as_posix()
            own = name.split("/")[0]
            text = path.read_text()
            for match in WALL_CLOCK.findall(text) if name not in MAY_READ_IT else ():
                found.append(f"{name} uses {match}: waits and timeouts go by std::chrono::steady_clock")
            for include in INCLUDE.findall(text):
                other = layer_of(include)
                if other is not None and other != own and RANK[other] >= RANK[own]:
                    found.append(f"{name} ({own}) includes {include} ({other})")
                for third_party, allowed in FENCES.items():
                    if re.match(third_party, include) and not re.match(allowed, name):
                        found.append(f"{name} includes {include}: only {allowed} may")
    return found


if __name__ == "__main__":
    problems = violations()
    print("\n".join(problems) or "layers: fine")
    sys.exit(1 if problems else 0)
