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

analysis() {  # COMMAND ARGUMENTS: python -m analysis
  local python=$venv/bin/python
  [ -x "$python" ] || python=python3
  PYTHONPATH=$root "$python" -m analysis "$@"
}

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
