#!/usr/bin/env bash
# Sets up, builds, and runs the tests that need no GPU.
usage="usage: jobs/test.sh [LABEL[,LABEL...]]
  LABEL  unit, mpi, golden, e2e (ctest) and python (pytest); default: all of these. slurm: a real Slurm of four
         virtual nodes, started and stopped by the tests. Any other ctest label works too."

source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
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

summary=() status=0
part() {  # NAME COMMAND...: runs it and notes how it ended
  local name=$1 begin=$SECONDS result=passed
  shift
  say "$name ..."
  "$@" || { result=FAILED; status=1; }
  summary+=("$name: $result, $((SECONDS - begin)) s")
}

begin=$SECONDS
more=()
case ,$labels, in *,slurm,*) more=(--with-slurm) ;; esac
"$root/jobs/setup.sh" --with-tests "${more[@]}"
summary+=("set-up and build: $((SECONDS - begin)) s")

of_ctest=$(tr , '\n' <<<"$labels" | grep -vx python | paste -sd, || true)
if [ -n "$of_ctest" ]; then part "ctest ($of_ctest)" run_ctest "$of_ctest"; fi
case ,$labels, in *,python,*) part pytest run_pytest ;; esac

for line in "${summary[@]}"; do say "$line"; done
say "all: $((SECONDS - begin)) s, exit $status"
exit "$status"
