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
        for name in ("awk bash basename cat cp dirname env false grep mkdir nproc paste readlink rm sed sha256sum tail "
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
        return subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True, check=False)

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
    python = checkout.run("bash", "jobs/test.sh", "python")
    assert "ctest" not in python.stdout and "pytest: passed" in python.stdout
