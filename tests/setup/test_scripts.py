"""The shell jobs, run in a copy of jobs/ with stand-ins for the programs that would install or build something."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

LISTS = ["requirements.txt", "requirements-libtorch.txt", "requirements-libtorch-cpu.txt",
         "requirements-libtorch-cuda.txt", "requirements-test.txt"]

# Answers as Python, pip and venv would; every `pip install` adds a line to $FAKE_LOG.
FAKE_PYTHON = """#!/bin/bash
case "$*" in
  "-c "* | "-m pip --version") exit 0 ;;
  "-m venv --clear "*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && mkdir -p "$4/lib/python3.11/site-packages" ;;
  "-m pip install "*) echo "${!#}" >>"$FAKE_LOG"; exit "${FAKE_PIP_STATUS:-0}" ;;
  *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


def scripts(root: Path) -> list[Path]:
    return [*sorted((root / "jobs").glob("*.sh")), *sorted((root / "jobs").glob("*.sbatch")), root / ".ci" / "run"]


class Checkout:
    """A folder with the jobs of the project and a PATH on which only what is put there, and the basics, is found."""

    def __init__(self, folder: Path, root: Path):
        self.folder, self.bin, self.log = folder / "checkout", folder / "bin", folder / "log"
        shutil.copytree(root / "jobs", self.folder / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
        self.bin.mkdir()
        for name in ("awk bash basename cat cp df dirname du env false grep mkdir nproc paste readlink rm sed sha256sum tail "
                     "tr true").split():
            (self.bin / name).symlink_to(shutil.which(name))
        self.fake("python3", FAKE_PYTHON)
        # Everything that Debian can have is installed; nothing of CUDA is known to the loader.
        self.fake("dpkg-query", '#!/bin/bash\nshift 2\nfor p in "$@"; do echo "installed $p"; done\n')
        self.fake("id", "#!/bin/bash\necho 0\n")
        self.fake("ldd", "#!/bin/bash\n")
        self.fake("ldconfig", "#!/bin/bash\n")

    def fake(self, name: str, content: str) -> None:
        (self.bin / name).unlink(missing_ok=True)
        (self.bin / name).write_text(content)
        (self.bin / name).chmod(0o755)

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess:
        variables = {"PATH": str(self.bin), "HOME": str(self.folder), "FAKE_LOG": str(self.log),
                     "VBON_PYTHON": "python3", "CUDA_HOME": "/nowhere", **environment}
        return subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False,
                              timeout=60)

    def setup(self, *options: str, **environment: str) -> subprocess.CompletedProcess:
        return self.run("bash", "jobs/setup.sh", *(options or ["--no-build"]), **environment)

    def source(self, code: str, **environment: str) -> subprocess.CompletedProcess:
        return self.run("bash", "-c", f"source jobs/common.sh; source jobs/system.sh; {code}", **environment)

    def installed(self) -> list[str]:
        """The lists given to pip so far, then forgotten."""
        lists = [Path(line).name for line in self.log.read_text().split()] if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return lists


@pytest.fixture
def checkout(tmp_path, root) -> Checkout:
    return Checkout(tmp_path, root)


def test_scripts_are_sound(root):
    for script in scripts(root):
        subprocess.run(["bash", "-n", script], check=True)
        if script.suffix == "" or script.name in ("setup.sh", "test.sh", "quickstart.sh"):
            assert os.access(script, os.X_OK), script
    if shutil.which("shellcheck"):
        subprocess.run(["shellcheck", *map(str, scripts(root))], check=True, cwd=root / "jobs")


@pytest.mark.parametrize("name", LISTS)
def test_lists_pin_every_package_exactly_and_name_no_place(root, name):
    lines = [line for line in (root / "jobs" / name).read_text().splitlines() if not line.startswith("#")]
    assert lines and all(re.fullmatch(r"[A-Za-z0-9_.-]+==[A-Za-z0-9.]+", line) for line in lines)
    names = [line.split("==")[0].lower() for line in lines]
    assert names == sorted(set(names))


def test_lists_do_not_contradict_each_other(root):
    lines = [line for name in LISTS for line in (root / "jobs" / name).read_text().splitlines()]
    packages = [line.split("==")[0].lower() for line in lines if not line.startswith("#")]
    assert len(packages) == len(set(packages))


def test_setup_installs_each_list_once_and_a_changed_one_again(checkout):
    first = checkout.setup()
    assert first.returncode == 0, first.stderr
    assert checkout.installed() == ["requirements.txt", "requirements-libtorch.txt", "requirements-libtorch-cpu.txt"]
    second = checkout.setup()
    assert second.returncode == 0 and checkout.installed() == []
    assert "LibTorch (530 MB): here" in second.stdout
    (checkout.folder / "jobs" / "requirements.txt").write_text("numpy==2.0.0\n")
    assert checkout.setup("--no-build", "--with-tests").returncode == 0
    assert checkout.installed() == ["requirements.txt", "requirements-test.txt"]


def test_setup_that_fails_tries_again_next_time(checkout):
    failed = checkout.setup(FAKE_PIP_STATUS="1")
    assert failed.returncode == 74 and "requirements.log" in failed.stderr
    assert checkout.installed() == ["requirements.txt"]
    assert checkout.setup().returncode == 0
    assert checkout.installed()[0] == "requirements.txt"


def test_setup_replaces_a_dead_link_and_keeps_a_living_one(checkout, tmp_path):
    venv, shared = checkout.folder / ".venv", tmp_path / "shared"
    venv.symlink_to(shared)
    assert checkout.setup().returncode == 0
    assert venv.is_dir() and not venv.is_symlink()
    venv.rename(shared)
    venv.symlink_to(shared)
    checkout.installed()
    assert checkout.setup().returncode == 0
    assert venv.is_symlink() and checkout.installed() == []
    (shared / "bin" / "python").write_text("#!/bin/false\n")
    broken = checkout.setup()
    assert broken.returncode == 2 and "remove the link" in broken.stderr and shared.is_dir()


@pytest.mark.parametrize("options, environment, message", [
    (["--no-biuld"], {}, "unknown option --no-biuld"),
    (["--no-build"], {"VBON_CUDA": "maybe"}, "VBON_CUDA is 'maybe'"),
    (["--no-build"], {"VBON_CUDA": "ON"}, "missing: nvcc libcudart.so.13"),
    (["--no-build"], {"VBON_LIBTORCH": "/nowhere"}, "no include/ATen"),
    (["--no-build"], {"VBON_PYTHON": "false"}, "no Python >= 3.11"),
])
def test_setup_refuses_what_it_cannot_do(checkout, options, environment, message):
    result = checkout.setup(*options, **environment)
    assert result.returncode == 2 and message in result.stderr


def test_setup_asks_for_room_before_it_begins(checkout):
    checkout.fake("df", "#!/bin/bash\nprintf 'Filesystem 1M-blocks Used Available\\n/dev/a 9000 8000 1000 /\\n'\n")
    checkout.fake("du", '#!/bin/bash\nprintf "%s\\t.venv\\n%s\\ttotal\\n" "$FAKE_HELD" "$FAKE_HELD"\nexit 1\n')
    full = checkout.setup("--no-build", "--with-tests", FAKE_HELD="100")
    assert full.returncode == 74 and "needs about 3300 MiB more, and its disk has 1000 MiB left" in full.stderr
    assert checkout.installed() == []
    assert checkout.setup("--no-build", "--with-tests", FAKE_HELD="2400").returncode == 0


def test_setup_names_libraries_that_libtorch_does_not_find(checkout):
    checkout.fake("ldd", "#!/bin/bash\nprintf '\\t%s\\n' 'libcupti.so.13 => not found' 'libc.so.6 => /lib/libc.so.6'\n")
    result = checkout.setup()
    assert result.returncode == 2
    assert "does not find libcupti.so.13" in result.stderr and "libc.so.6" not in result.stderr


def test_setup_takes_the_callers_libtorch(checkout, tmp_path):
    (tmp_path / "torch" / "include" / "ATen").mkdir(parents=True)
    assert checkout.setup(VBON_LIBTORCH=str(tmp_path / "torch")).returncode == 0
    assert checkout.installed() == ["requirements.txt"]


def toolkit(checkout: Checkout, release: str = "13.0") -> None:
    checkout.fake("nvcc", f"#!/bin/bash\necho 'Cuda compilation tools, release {release}, V{release}.88'\n")
    libraries = ["libcudart.so.13", "libcupti.so.13", "libcublas.so.13", "libcublasLt.so.13", "libcufft.so.12",
                 "libcurand.so.10", "libcusparse.so.12", "libcusolver.so.12", "libcudnn.so.9", "libnccl.so.2"]
    lines = "\n".join(f"\t{name} (libc6,x86-64) => /usr/lib/{name}" for name in libraries)
    checkout.fake("ldconfig", f"#!/bin/bash\ncat <<'END'\n{lines}\nEND\n")


def test_setup_chooses_cuda_by_what_it_finds(checkout):
    toolkit(checkout)
    assert "CUDA: ON" in checkout.setup().stdout
    assert "requirements-libtorch-cuda.txt" in checkout.installed()
    assert "CUDA: OFF" in checkout.setup(VBON_CUDA="OFF").stdout
    assert checkout.installed() == ["requirements-libtorch-cpu.txt"]
    toolkit(checkout, release="12.8")
    assert "CUDA: OFF, not here: nvcc 13" in checkout.setup().stdout


def test_missing_packages_alone_are_installed(checkout, tmp_path):
    checkout.fake("dpkg-query", '#!/bin/bash\nshift 2\nfor p in "$@"; do [ "$p" = ninja-build ] || '
                                '[ "$p" = libpcre2-dev ] || echo "installed $p"; done\nexit 1\n')
    checkout.fake("apt-get", '#!/bin/bash\necho "$*" >>"$FAKE_LOG"\n')
    result = checkout.source("install_system")
    assert result.returncode == 0, result.stderr
    update, install = checkout.log.read_text().splitlines()
    assert update == "update" and install.startswith("install --yes ")
    assert install.endswith(" ninja-build libpcre2-dev")


def test_without_rights_the_missing_things_are_named(checkout):
    checkout.fake("id", "#!/bin/bash\necho 1000\n")
    checkout.fake("dpkg-query", "#!/bin/bash\nexit 1\n")
    checkout.fake("apt-get", '#!/bin/bash\necho "$*" >>"$FAKE_LOG"\n')
    # A compiler that knows every header but one.
    checkout.fake("c++", "#!/bin/bash\n! grep -q hdf5.h\n")
    for name in ("cmake", "ninja", "pkg-config", "mpirun"):
        checkout.fake(name, "#!/bin/bash\n")
    result = checkout.source("install_system", CXX="c++")
    assert result.returncode == 2 and not checkout.log.exists()
    named = [line.strip() for line in result.stderr.splitlines() if " | " in line and "what" not in line]
    assert named == ["HDF5, serial and thread-safe; HDF5_ROOT=FOLDER names it | libhdf5-dev"]
    checkout.fake("c++", "#!/bin/bash\nexit 0\n")
    assert "not from Debian packages" in checkout.source("install_system", CXX="c++").stdout


def test_compile_jobs_leave_two_gibibytes_for_each(checkout):
    for kib, cores, expected in ((64 << 20, 2, 2), (3 << 20, 8, 1), (9 << 20, 8, 4), (1 << 20, 8, 1)):
        checkout.fake("nproc", f"#!/bin/bash\necho {cores}\n")
        awk = shutil.which("awk")
        checkout.fake("awk", f'#!/bin/bash\necho "MemAvailable: {kib} kB" | {awk} "$1"\n')
        assert checkout.source("compile_jobs").stdout.strip() == str(expected)


def test_slurm_is_installed_only_when_asked_for(checkout):
    checkout.fake("dpkg-query", '#!/bin/bash\nshift 2\nfor p in "$@"; do case $p in slurm-wlm | munge) ;; '
                                '*) echo "installed $p" ;; esac; done\n')
    checkout.fake("apt-get", '#!/bin/bash\necho "$*" >>"$FAKE_LOG"\n')
    assert "Debian packages: here" in checkout.setup().stdout
    checkout.installed()
    assert checkout.setup("--no-build", "--with-slurm").returncode == 0
    assert checkout.log.read_text().splitlines()[1].endswith(" slurm-wlm munge")


def slurm(checkout, code, **environment):
    """Runs code after sourcing what the Slurm jobs share, with more of the usual programs."""
    for name in ("cut", "date", "find", "wc"):
        if not (checkout.bin / name).exists():
            (checkout.bin / name).symlink_to(shutil.which(name))
    return checkout.run("bash", "-c", f"source jobs/slurm.sh; {code}", **environment)


def test_a_failing_machine_is_tried_again_three_times_and_afresh_after_progress(checkout):
    """Progress after each failure, and whether the job is started again."""
    for steps, expected in (([5, 5, 5, 5, 5], "yyynn"), ([0, 1, 1, 1, 1], "yyyyn"), ([7, 3, 3, 3], "yyyn"),
                            ([1, 1, 1, 2, 2, 2, 2], "yyyyyyn")):
        code = "rm -f tries; for p in {}; do if may_try_again tries $p; then printf y; else printf n; fi; done"
        assert slurm(checkout, code.format(" ".join(map(str, steps)))).stdout == expected


def test_progress_is_counted_by_the_files_of_the_run(checkout):
    checkout.fake("vbon", """#!/bin/bash
case "$*" in
  "train -c a.yaml --dry-run") printf 'run:\\n  dir: "my run"\\n  seed: 1\\npool:\\n  path: p.h5\\n' >&2 ;;
  "sweep g.yaml --dry-run") printf '2 runs in study, 1 done\\n' ;;
  *) exit 2 ;;
esac
""")
    run, study = checkout.folder / "my run", checkout.folder / "study/runs/b"
    vbon = str(checkout.bin / "vbon")

    def progress(words="train -c a.yaml"):
        return int(slurm(checkout, f"progress {words}", VBON=vbon).stdout)

    assert progress() == 0 and progress("train -c unknown.yaml") == 0
    for folder in (run / "eval", study, checkout.folder / "p.h5.parts"):
        folder.mkdir(parents=True)
    (run / "metrics.jsonl").write_text("{}\n{}\n")
    (run / "eval/step-00000002.h5").touch()
    (checkout.folder / "p.h5.parts/chunk-000000.h5").touch()
    assert progress() == 4
    (checkout.folder / "p.h5").touch()
    assert progress() > 1000
    (study / "metrics.jsonl").write_text("{}\n{}\n{}\n")
    (checkout.folder / "study/sweep.json").write_text('{\n "runs": [\n  {\n   "dir": "runs/a",\n   "name": "a"\n  },\n'
                                                      '  {\n   "dir": "runs/b"\n  }\n ]\n}\n')
    assert progress("sweep g.yaml --only 1") == 3 and progress("sweep g.yaml --only 0") == 0
    (checkout.folder / "g.yaml").touch()
    assert progress("scaling -o figures g.yaml") == 3 and progress("scaling") == 0


@pytest.mark.parametrize("words, per_node, expected", [
    ("-n 6 vbon train", "4", "-n 6 --nodes=2 vbon train"), ("-n 3 vbon train", "4", "-n 3 --nodes=1 vbon train"),
    ("-n 3 vbon train", "", "-n 3 vbon train"), ("vbon train", "4", "vbon train")])
def test_fewer_ranks_than_tasks_fill_node_after_node(checkout, words, per_node, expected):
    checkout.fake("srun", '#!/bin/bash\n[ "$1" != --mpi=list ] || { echo "none pmix"; exit; }\necho "$*"\n')
    said = slurm(checkout, f"launch {words}", SLURM_JOB_ID="9", SLURM_NTASKS_PER_NODE=per_node).stdout
    assert said == f"--mpi=pmix --kill-on-bad-exit=1 --cpu-bind=none {expected}\n"


@pytest.mark.parametrize("code, state, expected, called", [
    (0, "RUNNING", 0, False), (2, "RUNNING", 2, False), (1, "RUNNING", 1, False), (137, "RUNNING", 137, False),
    (75, "RUNNING", 0, True), (74, "RUNNING", 0, True), (138, "RUNNING", 0, True),
    (75, "CANCELLED", 75, False), (75, "PREEMPTED", 75, False), (74, "COMPLETING", 74, False)])
def test_a_job_ends_as_its_exit_code_says(checkout, code, state, expected, called):
    checkout.fake("scontrol", f"""#!/bin/bash
case "$1" in
  --oneliner) echo "JobId=9 ArrayJobId=7 JobState={state} Reason=None" ;;
  *) echo "$*" >>"$FAKE_LOG" ;;
esac
""")
    done = slurm(checkout, f"end_of_job with_signals bash -c 'exit {code}'", SLURM_JOB_ID="9", SLURM_ARRAY_JOB_ID="7",
                 SLURM_ARRAY_TASK_ID="2", VBON="/bin/false")
    assert done.returncode == expected, done.stderr
    assert (checkout.log.read_text() if checkout.log.exists() else "") == ("requeue 7_2\n" if called else "")


def test_a_signal_to_the_job_goes_on_to_the_ranks(checkout):
    """The shell waits for what they make of it: here, some work and exit 75."""
    ranks = "trap 'echo told; sleep 0.2; exit 75' USR1; echo $$ >pid; while :; do sleep 0.05; done"
    (checkout.bin / "sleep").symlink_to(shutil.which("sleep"))
    code = f'with_signals bash -c "{ranks.replace("$", chr(92) + "$")}" || echo "code $?"'
    for signals in (["USR1"], ["TERM"], ["TERM", "USR1"]):
        kills = "; ".join(f"kill -{name} $$" for name in signals)
        tell = f"rm -f pid; (until [ -s pid ]; do sleep 0.05; done; {kills}) & "
        assert slurm(checkout, tell + code).stdout.split("\n")[:2] == ["told", "code 75"], signals


def test_what_is_submitted(checkout):
    checkout.fake("sbatch", '#!/bin/bash\n[ "$1" = --test-only ] && exit\necho "$SBATCH_PARTITION $*" >>"$FAKE_LOG"\necho "$(wc -l <"$FAKE_LOG");cluster"\n')
    (checkout.folder / "a.yaml").touch()
    (checkout.folder / "jobs/cluster.env").write_text("export SBATCH_PARTITION=gpu\nlogs='my logs'\n")
    slurm(checkout, "true")

    def submit(*words):
        checkout.log.unlink(missing_ok=True)
        done = checkout.run("bash", "jobs/submit.sh", *words)
        return done, checkout.log.read_text().splitlines() if checkout.log.exists() else []

    done, (array, merge, train) = submit("pool,train", "a.yaml", "--array=0-7", "--time=5", "--", "-s", "run.seed=2")
    assert done.returncode == 0 and done.stdout == "3\n", done.stderr
    assert array.startswith("gpu ") and "--array=0-7" in array and array.endswith("jobs/pool.sbatch a.yaml -s run.seed=2")
    assert "--array" not in merge and "afterok:1" in merge and merge.endswith("jobs/pool.sbatch a.yaml --merge -s run.seed=2")
    assert "afterok:2" in train and train.endswith("jobs/train.sbatch a.yaml -s run.seed=2")
    assert all("--time=5" in call and "--output=my logs/" in call for call in (array, merge, train))
    done, (scaling,) = submit("scaling", "a.yaml", "--nodes=2", "--exclusive", "--", "b.yaml")
    assert done.stdout == "1\n" and "--nodes=2 --exclusive" in scaling and scaling.endswith("jobs/scaling.sbatch a.yaml b.yaml")
    for words, said in ((["train", "b.yaml"], "no file 'b.yaml'"), (["trian", "a.yaml"], "unknown job 'trian'"),
                        (["train", "a.yaml", "--array=0-3"], "--array is of pools"), (["train"], "usage"),
                        (["scaling,train", "a.yaml"], "scaling is submitted alone"),
                        (["sweep", "a.yaml", "--", "-s", "a=b"], "its grid has its settings")):
        done, calls = submit(*words)
        assert done.returncode == 2 and said in done.stderr and not calls
    checkout.fake("sbatch", "#!/bin/bash\necho 'sbatch: error: invalid partition specified: gpu' >&2\nexit 1\n")
    done, _ = submit("train", "a.yaml")
    assert done.returncode == 2 and "invalid partition" in done.stderr and "sinfo" in done.stderr


def test_test_job_reports_each_part_and_fails_with_any(checkout):
    (checkout.folder / "tests").mkdir()
    (checkout.folder / "build").mkdir()
    (checkout.folder / "build" / "current").symlink_to("release")
    (checkout.folder / "jobs" / "setup.sh").write_text("#!/bin/bash\necho set up \"$@\"\n")
    (checkout.folder / ".venv" / "bin").mkdir(parents=True)
    (checkout.folder / ".venv" / "bin" / "python").write_text("#!/bin/bash\necho pytest $*\n")
    (checkout.folder / ".venv" / "bin" / "python").chmod(0o755)
    checkout.fake("ctest", '#!/bin/bash\necho "ctest $*"\nexit "${FAKE_CTEST_STATUS:-0}"\n')
    good = checkout.run("bash", "jobs/test.sh")
    assert good.returncode == 0
    assert "set up --with-tests" in good.stdout and "--preset release" in good.stdout
    assert "^(unit|mpi|golden|e2e)$" in good.stdout and "pytest: passed" in good.stdout
    bad = checkout.run("bash", "jobs/test.sh", FAKE_CTEST_STATUS="8")
    assert bad.returncode == 1
    assert "ctest (unit,mpi,golden,e2e): FAILED" in bad.stdout and "pytest: passed" in bad.stdout
    some = checkout.run("bash", "jobs/test.sh", "unit")
    assert "^(unit)$" in some.stdout and "pytest" not in some.stdout
    assert "--with-slurm" not in good.stdout
    assert "--with-slurm" in checkout.run("bash", "jobs/test.sh", "slurm").stdout
    python = checkout.run("bash", "jobs/test.sh", "python")
    assert "ctest" not in python.stdout and "pytest: passed" in python.stdout


def test_sanitizers_are_builds_of_their_own(checkout):
    (checkout.folder / "jobs" / "setup.sh").write_text("#!/bin/bash\necho set up \"$@\"\n")
    checkout.fake("ctest", '#!/bin/bash\necho "ctest $*"\n')
    checkout.fake("cmake", '#!/bin/bash\necho "cmake $*"\nif [ "$1" = "${FAKE_CMAKE_FAILS:-}" ]; then exit 1; fi\n')
    good = checkout.run("bash", "jobs/test.sh", "sanitize,fuzz")
    assert good.returncode == 0, good.stderr
    assert "set up --with-tests --no-build" in good.stdout and "ctest (" not in good.stdout
    assert "--build --preset asan" in good.stdout and "--target light" in good.stdout and "--target fuzz_readers" in good.stdout
    assert "--preset asan --label-regex ^(unit|mpi)$ --label-regex ^(light)$" in good.stdout
    assert "--preset asan --label-regex ^(fuzz)$" in good.stdout
    assert "sanitize: passed" in good.stdout and "fuzz: passed" in good.stdout
    mixed = checkout.run("bash", "jobs/test.sh", "unit,tsan", FAKE_CMAKE_FAILS="--build")
    assert mixed.returncode == 1 and "ctest (unit): passed" in mixed.stdout and "tsan: FAILED" in mixed.stdout
    assert "--no-build" not in mixed.stdout
