# shellcheck shell=bash
# What the machine itself has to have, and how it gets it. Sourced by setup.sh after common.sh.

readonly debian_packages=(
  g++ cmake ninja-build ccache pkg-config git ca-certificates python3 python3-venv
  libopenmpi-dev openmpi-bin libhdf5-dev libyaml-cpp-dev libcli11-dev libspdlog-dev libfmt-dev nlohmann-json3-dev
  libpcre2-dev libssl-dev libutf8proc-dev libgtest-dev libgmock-dev strace
)

# Of the tests with label slurm alone (setup.sh --with-slurm).
readonly slurm_packages=(slurm-wlm munge)

# header | what it is | Debian package
readonly headers=(
  "mpi.h|MPI (Open MPI 4.1 or another MPI 3.1)|libopenmpi-dev openmpi-bin"
  "hdf5.h|HDF5, serial and thread-safe; HDF5_ROOT=FOLDER names it|libhdf5-dev"
  "yaml-cpp/yaml.h|yaml-cpp|libyaml-cpp-dev"
  "CLI/CLI.hpp|CLI11|libcli11-dev"
  "fmt/format.h|fmt|libfmt-dev"
  "spdlog/spdlog.h|spdlog|libspdlog-dev"
  "nlohmann/json.hpp|nlohmann-json|nlohmann-json3-dev"
  "pcre2.h|PCRE2|libpcre2-dev"
  "openssl/evp.h|OpenSSL|libssl-dev"
  "utf8proc.h|utf8proc|libutf8proc-dev"
  "gtest/gtest.h|GoogleTest|libgtest-dev libgmock-dev"
)

# program | what it is | Debian package
readonly programs=(
  "${CXX:-g++}|C++20 compiler; CXX names it|g++"
  "cmake|CMake 3.25 or newer|cmake"
  "ninja|Ninja|ninja-build"
  "pkg-config|pkg-config|pkg-config"
  "mpirun|MPI launcher|openmpi-bin"
)

missing_packages() {  # of debian_packages and those named
  local installed
  installed=$(dpkg-query -W -f='${db:Status-Status} ${Package}\n' "${debian_packages[@]}" "$@" 2>/dev/null || true)
  local package
  for package in "${debian_packages[@]}" "$@"; do
    grep -qx "installed $package" <<<"$installed" || echo "$package"
  done
}

include_flags() {  # where headers may be beside the compiler's own places
  local folder
  for folder in ${CMAKE_PREFIX_PATH:+${CMAKE_PREFIX_PATH//[;:]/ }} ${HDF5_ROOT:-} ${MPI_HOME:-}; do
    printf -- '-I%s/include\n' "$folder"
  done
  echo -I/usr/include/hdf5/serial
  if command -v mpicc >/dev/null; then mpicc --showme:compile 2>/dev/null || mpicc -show 2>/dev/null; fi |
    tr ' ' '\n' | grep '^-I' || true
}

missing_by_look() {  # lines "what | Debian package", found by looking for programs and headers
  local entry name what package flags
  for entry in "${programs[@]}"; do
    IFS='|' read -r name what package <<<"$entry"
    command -v "$name" >/dev/null || echo "$what | $package"
  done
  mapfile -t flags < <(include_flags)
  for entry in "${headers[@]}"; do
    IFS='|' read -r name what package <<<"$entry"
    # PCRE2's header wants to know the width of a character.
    "${CXX:-g++}" "${flags[@]}" -std=c++20 -fsyntax-only -x c++ - 2>/dev/null \
      <<<"#define PCRE2_CODE_UNIT_WIDTH 8"$'\n'"#include <$name>" || echo "$what | $package"
  done
  (find_python) >/dev/null 2>&1 || echo "Python >= 3.11 with venv; VBON_PYTHON names it | python3-venv"
}

install_system() {  # [PACKAGE...]: debian_packages and these
  local missing=() as_root=()
  if command -v dpkg-query >/dev/null; then mapfile -t missing < <(missing_packages "$@"); else missing=(unknown); fi
  if [ ${#missing[@]} -eq 0 ]; then
    say "Debian packages: here"
    return
  fi
  if [ "$(id -u)" -ne 0 ]; then as_root=(sudo -n); fi
  if command -v apt-get >/dev/null && "${as_root[@]}" true 2>/dev/null; then
    timed "apt-get update" logged build/logs/apt-update.log "${as_root[@]}" apt-get update
    timed "apt-get install ${missing[*]}" logged build/logs/apt-install.log "${as_root[@]}" \
      env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install --yes --no-install-recommends \
      -o DPkg::Lock::Timeout=300 "${missing[@]}"
    return
  fi
  local lines
  lines=$(missing_by_look)
  if [ -z "$lines" ]; then
    say "compiler and libraries: here (not from Debian packages)"
    return
  fi
  fail "$user_error" "these are missing and this account may not install them (what | Debian package):
  ${lines//$'\n'/$'\n'  }
On a cluster: load the modules that have them (compiler, cmake, ninja, openmpi, hdf5 ...), and name what is elsewhere:
  CXX=PROGRAM  VBON_PYTHON=PROGRAM  HDF5_ROOT=FOLDER  CMAKE_PREFIX_PATH=FOLDER:FOLDER  VBON_LIBTORCH=FOLDER
Where an administrator can help: apt-get install ${missing[*]/#unknown/${debian_packages[*]}}"
}

check_room() {  # MIB FOLDER...: what the folders hold together in the end; a full disk shows as all kinds of errors
  local needed=$1 held free
  shift
  held=$(du -smLc "$@" 2>/dev/null | awk '{sum = $1} END {print sum + 0}' || true)
  free=$(df -Pm . | awk 'NR == 2 {print $4}')
  [ $((held + free)) -ge "$needed" ] || fail "$environment_error" "$PWD needs about $((needed - held)) MiB more, and its disk has $free MiB left.
Make room there, or use a checkout on another disk."
}

find_python() {  # prints the Python to use: 3.11 or newer, able to make environments
  local candidate
  for candidate in ${VBON_PYTHON:-/usr/bin/python3 python3 python3.13 python3.12 python3.11}; do
    if "$candidate" -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  fail "$user_error" "no Python >= 3.11 with venv (Debian package python3-venv); VBON_PYTHON=PROGRAM names one"
}

cache_compiles() {  # sets the environment of cmake so that objects compiled in another checkout serve here too
  local launcher=''
  if command -v ccache >/dev/null; then launcher=$root/cmake/cached-compile.sh; fi
  # Precompiled headers need what the sloppiness names.
  export VBON_LAUNCHER=$launcher CCACHE_BASEDIR=$root CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=pch_defines,time_macros
  export CCACHE_PCH_EXTSUM=1
  if [ -z "${HOME:-}" ]; then export CCACHE_DIR=${CCACHE_DIR:-$root/.ccache}; fi
}

compile_jobs() {  # as many as there are cores, but 2 GiB of memory for each
  local cores memory
  cores=$(nproc)
  memory=$(awk '/^MemAvailable/ {print int($2 / 2097152)}' /proc/meminfo)
  echo $((memory < 1 ? 1 : memory < cores ? memory : cores))
}

missing_of_cuda() {  # names what is not here of the CUDA 13 toolkit, cuDNN and NCCL; nothing: all is here
  local nvcc library missing=() known
  nvcc=$(command -v nvcc || command -v "${CUDA_HOME:-/usr/local/cuda}/bin/nvcc" || true)
  if [ -z "$nvcc" ]; then
    missing+=(nvcc)
  elif ! grep -q 'release 13\.' <<<"$("$nvcc" --version)"; then
    missing+=("nvcc 13")
  fi
  known=$(PATH=$PATH:/sbin:/usr/sbin ldconfig -p 2>/dev/null || true)
  for library in libcudart.so.13 libcupti.so.13 libcublas.so.13 libcublasLt.so.13 libcufft.so.12 libcurand.so.10 \
    libcusparse.so.12 libcusolver.so.12 libcudnn.so.9 libnccl.so.2; do
    grep -q "$library" <<<"$known" || in_library_path "$library" || missing+=("$library")
  done
  local IFS=' '
  echo "${missing[*]}"
}

in_library_path() {
  local folder folders
  IFS=: read -ra folders <<<"${LD_LIBRARY_PATH:-}"
  for folder in "${folders[@]}"; do
    if [ -e "$folder/$1" ]; then return 0; fi
  done
  return 1
}
