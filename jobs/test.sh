#!/usr/bin/env bash
# Sets up, builds, and runs the default tests, none of which needs a GPU (.ci/run: more, slurm, sanitize, fuzz too).
usage="usage: jobs/test.sh [LABEL[,LABEL...]]
  LABEL  unit, mpi, golden, e2e (ctest) and python (pytest); default: all of these. more: further cases of
         the same and where each method ends. slurm: a real Slurm of four virtual nodes, started and stopped by the
         tests. Any other ctest label works too. In builds of their own:
           sanitize      unit and mpi tests that do without LibTorch, under AddressSanitizer and UBSan
           fuzz          a few hundred changed files for every reader, under the same
           sanitize-all  all unit and mpi tests, under the same (an hour)
           tsan          unit and mpi tests that do without LibTorch, under ThreadSanitizer"

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
source "$(dirname "${BASH_SOURCE[0]}")/system.sh"
cd "$root"

case ${1:-} in -h | --help) echo "$usage"; exit 0 ;; esac
[ $# -le 1 ] || fail "$user_error" "$usage"
labels=${1:-unit,mpi,golden,e2e,python}

run_ctest() {  # LABELS; one test more than there are cores, since some spend their time waiting
  ctest --preset "$(readlink build/current)" --label-regex "^(${1//,/|})\$" --parallel "$(($(nproc) + 1))"
}

run_pytest() {
  local folders=() folder
  for folder in tests analysis; do
    if [ -d "$folder" ]; then folders+=("$folder"); fi
  done
  PYTHONPATH=$root "$venv/bin/python" -m pytest -q -rs --durations=5 "${folders[@]}"
}

end_of_pytest() {  # it runs beside ctest
  local ended=0
  wait "$pytest" || ended=$?
  cat build/logs/pytest.log
  return "$ended"
}

sanitized() {  # PRESET TARGET LABELS...: builds the target and runs the tests that have one label of each LABELS
  local preset=$1 target=$2 chosen=() some
  shift 2
  cache_compiles
  cmake --preset "$preset" -DVBON_LIBTORCH="${VBON_LIBTORCH:-}" >"build/logs/configure-$preset.log" 2>&1 ||
    { tail -n 30 "build/logs/configure-$preset.log" >&2; return 1; }
  cmake --build --preset "$preset" --parallel "$(compile_jobs)" --target "$target" || return
  for some; do chosen+=(--label-regex "^(${some//,/|})\$"); done
  ctest --preset "$preset" "${chosen[@]}" --parallel "$(($(nproc) + 1))"
}

summary=() status=0
part() {  # NAME COMMAND...: runs it and notes how it ended
  local name=$1 begin=$SECONDS result=passed
  shift
  say "$name ..."
  "$@" || { result=FAILED; status=1; }
  summary+=("$name: $result, $((SECONDS - begin)) s")
}

begin=$SECONDS
of_ctest=$(tr , '\n' <<<"$labels" | grep -vxE 'python|sanitize|fuzz|sanitize-all|tsan' | paste -sd, || true)
more=()
case ,$labels, in *,slurm,*) more=(--with-slurm) ;; esac
if [ -z "$of_ctest" ]; then case ,$labels, in *,python,*) ;; *) more+=(--no-build) ;; esac; fi
mkdir -p build/logs
"$root/jobs/setup.sh" --with-tests "${more[@]}"
summary+=("set-up and build: $((SECONDS - begin)) s")

pytest=
case ,$labels, in *,python,*) run_pytest >build/logs/pytest.log 2>&1 & pytest=$! ;; esac
if [ -n "$of_ctest" ]; then part "ctest ($of_ctest)" run_ctest "$of_ctest"; fi
if [ -n "$pytest" ]; then part pytest end_of_pytest; fi
case ,$labels, in *,sanitize,*) part sanitize sanitized asan light unit,mpi light ;; esac
case ,$labels, in *,fuzz,*) part fuzz sanitized asan fuzz_readers fuzz ;; esac
case ,$labels, in *,sanitize-all,*) part sanitize-all sanitized asan all unit,mpi ;; esac
case ,$labels, in *,tsan,*) part tsan sanitized tsan light unit,mpi light ;; esac

for line in "${summary[@]}"; do say "$line"; done
say "all: $((SECONDS - begin)) s, exit $status"
exit "$status"
