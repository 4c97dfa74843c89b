#!/usr/bin/env bash
# Installs what is missing, makes the Python environment and builds vbon. Outside this checkout it writes only Debian
# packages and the caches of pip and ccache. Safe to run again: what is there and right is left alone.
usage="usage: jobs/setup.sh [--with-data] [--with-tests] [--with-slurm] [--no-build]
  --with-data   also models and text of the quick-start (180 MB to download, 0.9 GB on disk)
  --with-tests  also what the tests compare with (transformers, trl ...)
  --with-slurm  also a Slurm for its own tests, which start its daemons themselves
  --no-build    stop before the build
environment:
  VBON_CUDA=ON|OFF        with or without CUDA devices; default: ON if the CUDA 13 toolkit, cuDNN and NCCL are here
  VBON_LIBTORCH=FOLDER    a LibTorch 2.11 of your own (with include/ and lib/) instead of the wheel
  VBON_PYTHON=PROGRAM     a Python >= 3.11 with venv
  CXX, HDF5_ROOT, CMAKE_PREFIX_PATH, NCCL_ROOT   as CMake understands them"

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/system.sh"
cd "$root"

with_data=false with_tests=false with_slurm=() build=true
for option in "$@"; do
  case $option in
    --with-data) with_data=true ;;
    --with-tests) with_tests=true ;;
    --with-slurm) with_slurm=("${slurm_packages[@]}") ;;
    --no-build) build=false ;;
    -h | --help) echo "$usage"; exit 0 ;;
    *) fail "$user_error" "unknown option $option
$usage" ;;
  esac
done

make_environment() {
  # A link whose folder is gone (another machine's) is of no use to anybody.
  if [ -L "$venv" ] && [ ! -e "$venv" ]; then rm "$venv"; fi
  if "$venv/bin/python" -m pip --version >/dev/null 2>&1; then
    say "Python environment: here"
    return
  fi
  local python
  python=$(find_python)
  [ ! -L "$venv" ] || fail "$user_error" "the Python in .venv does not start and .venv is a link; remove the link"
  timed "Python environment in .venv with $python" logged build/logs/venv.log "$python" -m venv --clear "$venv"
}

install_list() {  # FILE WHAT: a complete pinned list; a stamp in the environment remembers its content
  local list=$root/jobs/$1 stamp=$venv/.vbon-$1 sum
  sum=$(sha256sum <"$list")
  if [ "$(cat "$stamp" 2>/dev/null)" = "$sum" ]; then
    say "$2: here"
    return
  fi
  timed "$2" logged "build/logs/${1%.txt}.log" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --no-input --no-deps --no-compile --only-binary :all: --requirement "$list"
  echo "$sum" >"$stamp"
}

choose_cuda() {  # sets `cuda`
  local missing
  missing=$(missing_of_cuda)
  case ${VBON_CUDA:-} in
    OFF) cuda=OFF; say "CUDA: OFF, because VBON_CUDA says so" ;;
    ON)
      [ -z "$missing" ] || fail "$user_error" "VBON_CUDA=ON, but of the CUDA toolkit these are missing: $missing.
Load the modules (CUDA 13, cuDNN 9, NCCL 2) or add their folders to LD_LIBRARY_PATH; or VBON_CUDA=OFF."
      cuda=ON; say "CUDA: ON, because VBON_CUDA says so" ;;
    "")
      if [ -z "$missing" ]; then
        cuda=ON
        say "CUDA: ON, the toolkit with cuDNN and NCCL is here (VBON_CUDA=OFF to do without)"
      else
        cuda=OFF
        say "CUDA: OFF, not here: $missing"
      fi ;;
    *) fail "$user_error" "VBON_CUDA is '$VBON_CUDA'; it can be ON or OFF" ;;
  esac
}

install_libtorch() {
  if [ -n "${VBON_LIBTORCH:-}" ]; then
    [ -d "$VBON_LIBTORCH/include/ATen" ] || fail "$user_error" "VBON_LIBTORCH=$VBON_LIBTORCH has no include/ATen"
    say "LibTorch: $VBON_LIBTORCH, because VBON_LIBTORCH says so"
    return
  fi
  install_list requirements-libtorch.txt "LibTorch (530 MB)"
  if [ "$cuda" = ON ]; then
    install_list requirements-libtorch-cuda.txt "CUDA libraries that the toolkit lacks (230 MB)"
  else
    install_list requirements-libtorch-cpu.txt "libraries that LibTorch's CPU part needs (16 MB)"
  fi
  check_libtorch
}

check_libtorch() {  # every library that it needs is found
  local part=cpu lib missing
  if [ "$cuda" = ON ]; then part=cuda; fi
  for lib in "$venv"/lib/python3*/site-packages/torch/lib/libtorch_"$part".so; do
    missing=$(ldd "$lib" | sed -n 's/ => not found//p' | tr -d '\t' | tr '\n' ' ')
    [ -z "$missing" ] || fail "$user_error" "$(basename "$lib") does not find $missing"
  done
}

build_vbon() {
  local preset=release log=build/logs/configure.log
  if [ "$cuda" = ON ]; then preset=release-cuda; fi
  cache_compiles
  timed "configure ($preset)" logged "$log" cmake --preset "$preset" -DVBON_LIBTORCH="${VBON_LIBTORCH:-}"
  local targets=(--target vbon)
  if $with_tests; then targets=(); fi
  timed "build ($preset, $(compile_jobs) at a time)" \
    cmake --build --preset "$preset" --parallel "$(compile_jobs)" "${targets[@]}"
  ln -sfn "$preset" build/current
  say "built in build/$preset (build/current)"
}

begin=$SECONDS
needed=2200
if $with_tests; then needed=$((needed + 1200)); fi
if $with_data; then needed=$((needed + 900)); fi
check_room "$needed" .venv build models data
install_system "${with_slurm[@]}"
make_environment
install_list requirements.txt "Python packages (80 MB)"
choose_cuda
install_libtorch
if $with_tests; then install_list requirements-test.txt "Python packages of the tests (110 MB)"; fi
if $with_data; then
  timed "models and text" "$venv/bin/python" jobs/data/prepare.py --models models --data data
fi
if $build; then build_vbon; fi
say "set-up: done in $((SECONDS - begin)) s"
