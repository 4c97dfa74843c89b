# shellcheck shell=bash
# What the jobs share: strict mode, places, messages. Sourced, never run.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv

# Exit codes as those of vbon: 2 is the caller's to mend, 74 the machine's or the network's.
readonly user_error=2 environment_error=74

say() { printf '== %s\n' "$*"; }

fail() {  # CODE MESSAGE...
  local code=$1
  shift
  printf 'error: %s\n' "$*" >&2
  exit "$code"
}

run_python() {  # ARGUMENTS: by the Python of the checkout's environment, or the machine's
  if [ -x "$venv/bin/python" ]; then "$venv/bin/python" "$@"; else python3 "$@"; fi
}

analysis() { PYTHONPATH=$root run_python -m analysis "$@"; }  # COMMAND ARGUMENTS

timed() {  # WHAT COMMAND...: runs it, says what and how long
  local what=$1 begin=$SECONDS
  shift
  say "$what ..."
  "$@"
  say "$what: $((SECONDS - begin)) s"
}

logged() {  # LOG COMMAND...: its output goes to the file, the end of which is shown if it fails
  local log=$1
  shift
  mkdir -p "$(dirname "$log")"
  "$@" >"$log" 2>&1 && return
  tail -n 30 "$log" >&2
  fail "$environment_error" "'$1' failed; its whole output is in $log"
}
