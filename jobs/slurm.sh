# shellcheck shell=bash
# What the Slurm jobs share: the cluster's settings, how jobs are submitted, how ranks are started, how a job ends.
# Sourced by submit.sh, launch.sh, *.sbatch and the scripts of `vbon sweep --slurm`, never run.
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"

jobs=$root/jobs
# What jobs/cluster.env may set beside the environment (see jobs/cluster.env.example).
vbon=${VBON:-$root/build/current/bin/vbon} logs=runs/logs mpi=pmix container=()
cluster=${VBON_CLUSTER:-$jobs/cluster.env}
if [ -f "$cluster" ]; then
  set +eu  # modules and Spack are not written for strict mode
  # shellcheck disable=SC1090
  source "$cluster"
  set -euo pipefail
fi
export VBON_JOBS=$jobs
# Bit-exact resume on GPUs needs the first; the second says what went wrong between nodes.
export CUBLAS_WORKSPACE_CONFIG=${CUBLAS_WORKSPACE_CONFIG:-:4096:8} NCCL_DEBUG=${NCCL_DEBUG:-WARN}

# An array's task by both its numbers: the job id of the last task is the array's, too, and would mean all of it.
job=${SLURM_ARRAY_JOB_ID:+${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID:-}}
job=${job:-${SLURM_JOB_ID:-}}

submit() {  # JOB [SBATCH OPTIONS] -- ARGUMENTS: submits jobs/JOB.sbatch, prints its number
  local name=$1 options=()
  shift
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  command -v sbatch >/dev/null || fail "$user_error" "no sbatch: this is no machine that submits to Slurm"
  mkdir -p "$logs"
  # A job whose predecessor failed can never run: it is cancelled and not left waiting. Later options win.
  local words=(--kill-on-invalid-dep=yes --output="$logs/%x-%j.log" "${options[@]}" "$jobs/$name.sbatch" "$@") said
  # Slurm may take what no node can run, and leave it waiting for ever.
  said=$(sbatch --test-only "${words[@]}" 2>&1) ||
    fail "$user_error" "Slurm cannot start this $name job (${options[*]}): $said
'sinfo --long' says what partitions and nodes offer; 'sbatch OPTIONS jobs/$name.sbatch FILE' queues it all the same"
  sbatch --parsable "${words[@]}" | cut -d ';' -f 1
}

launch() {  # [-n RANKS] PROGRAM ARGUMENTS: becomes the launcher of its ranks; without -n one a task of the allocation
  local ranks=() nodes=()
  if [ "$1" = -n ]; then
    ranks=(-n "$2")
    # Fewer ranks than tasks fill node after node.
    if [ -n "${SLURM_NTASKS_PER_NODE:-}" ]; then
      nodes=(--nodes="$((($2 + SLURM_NTASKS_PER_NODE - 1) / SLURM_NTASKS_PER_NODE))")
    fi
    shift 2
  fi
  if [ -z "$job" ]; then exec "$jobs/mpirun.sh" "${ranks[@]}" "$@"; fi
  # Ranks of one node share its cores and devices by their roles: Slurm must not bind them.
  if grep -qw pmix <<<"$(srun --mpi=list 2>&1)"; then
    # srun does not inherit it.
    if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then export SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK; fi
    exec srun --mpi="$mpi" --kill-on-bad-exit=1 --cpu-bind=none "${ranks[@]}" "${nodes[@]}" \
      "${container[@]}" "$@"
  fi
  command -v mpirun >/dev/null ||
    fail "$user_error" "srun has no PMIx (srun --mpi=list) and there is no mpirun: load an MPI module in jobs/cluster.env"
  say "srun has no PMIx (srun --mpi=list): mpirun inside the allocation"
  if [ ${#ranks[@]} -eq 0 ]; then ranks=(-n "$SLURM_NTASKS"); fi
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  exec mpirun --quiet --bind-to none --oversubscribe "${ranks[@]}" "${container[@]}" "$@"
}

look_around() {  # says where the job is; ends it where the program is not
  trap 'requeue "told to stop before it began"; exit 75' USR1
  say "$(date -u +%FT%TZ) job $job, start $((${SLURM_RESTART_COUNT:-0} + 1)), on $SLURM_JOB_NODELIST:" \
    "${SLURM_NTASKS:-1} tasks, devices ${CUDA_VISIBLE_DEVICES:-none}"
  [ ${#container[@]} -eq 0 ] || return 0  # it has a file system of its own
  # A folder that one of the nodes does not mount is found here, by name, and not by a launcher that hangs.
  # shellcheck disable=SC2016
  srun --mpi=none --ntasks="$SLURM_JOB_NUM_NODES" --ntasks-per-node=1 --cpus-per-task=1 bash -c \
    '[ -x "$1" ] && exit; echo "error: $(hostname): no program $1" >&2; exit 2' bash "$vbon" ||
    fail "$user_error" "the program is not on every node: build it (jobs/setup.sh) where all nodes see it, or name it" \
      "in jobs/cluster.env (vbon=...)"
}

run() {  # COMMAND OF VBON...: its ranks on the whole allocation, then the end of the job
  look_around
  end_of_job run_ranks "$@"
}

run_ranks() { with_signals "$jobs/launch.sh" "$vbon" "$@"; }
run_alone() { with_signals "${container[@]}" "$vbon" "$@"; }
run_scaling() {  # scaling ARGUMENTS
  shift
  with_signals "$jobs/scaling.sh" "$@"
}

with_signals() {  # COMMAND...: runs it; USR1 and TERM to this shell are USR1 to it
  local child again=1 code=0
  "$@" &
  child=$!
  # `wait` returns at a signal: once more, then. One handler for both: of two signals at once bash may forget one.
  trap 'again=1; kill -USR1 "$child" 2>/dev/null || true' USR1 TERM
  while [ -n "$again" ]; do
    again='' code=0
    wait "$child" || code=$?
  done
  return "$code"
}

end_of_job() {  # run_ranks|run_alone COMMAND OF VBON...: runs it and does what its exit code asks for
  local code=0
  local tries=$logs/.tries-$job
  if [ "${SLURM_RESTART_COUNT:-0}" -eq 0 ]; then rm -f "$tries"; fi
  "$@" || code=$?
  shift
  say "$(date -u +%FT%TZ) exit $code"
  case $code in
    75) requeue "stopped with what is done kept" ;;
    138) requeue "told to stop by USR1 before the ranks could take it" ;;
    "$environment_error")
      if may_try_again "$tries" "$(progress "$@")"; then
        requeue "the machine failed, try $(cut -d ' ' -f 2 "$tries") of 3 without progress"
      else
        say "the machine failed 3 times more without progress: not requeued"
      fi ;;
    0) rm -f "$tries" ;;
  esac
  exit "$code"
}

requeue() {  # WHY
  local state
  state=$(sed -n 's/.*JobState=\([A-Z_]*\).*/\1/p' <<<"$(scontrol --oneliner show job "$job")")
  # One that is being cancelled has to end; one that Slurm has preempted starts again by Slurm's own doing.
  if [ "$state" != RUNNING ]; then
    say "$1; not requeued: the job is $state"
  elif scontrol requeue "$job" || { sleep 5 && scontrol requeue "$job"; }; then  # the controller may be busy
    say "$1: requeued"
    exit 0
  else
    say "$1; Slurm does not requeue it: submit the same job again to go on"
  fi
}

# True three times without progress in between. FILE remembers the farthest progress and the tries since.
may_try_again() {  # FILE PROGRESS
  local best=-1 tries=0
  if [ -f "$1" ]; then read -r best tries <"$1"; fi
  if [ "$2" -gt "$best" ]; then best=$2 tries=0; fi
  mkdir -p "$(dirname "$1")"
  echo "$best $((tries + 1))" >"$1"
  [ "$tries" -lt 3 ]
}

progress() {  # COMMAND OF VBON...: a number that grows with what the run has on disk: steps, chunks, pools, evaluations
  local place total=0
  while read -r place; do
    if [ -f "$place/metrics.jsonl" ]; then total=$((total + $(wc -l <"$place/metrics.jsonl"))); fi
    total=$((total + $(find "$place.parts" "$place/eval" -name '*.h5' 2>/dev/null | wc -l || true)))
    if [ -f "$place" ]; then total=$((total + 1000000)); fi  # a pool outweighs its chunks, which go with its making
  done < <(places "$@")
  echo "$total"
}

folder_of_sweep() {  # GRID
  "${container[@]}" "$vbon" sweep "$1" --dry-run 2>/dev/null | sed -n 's/^[0-9]* runs\{0,1\} in \(.*\), [0-9]* done$/\1/p'
}

run_folders() {  # DIR: of a sweep's runs, in their order
  [ ! -f "$1/sweep.json" ] || sed -n 's/^ *"dir": "\(.*\)",\{0,1\}$/\1/p' "$1/sweep.json" | sed "s|^|$1/|"
}

places() {  # COMMAND OF VBON...: what the configuration names as run folder and pools; of a sweep's run its folder
  local dir grid
  if [ "$1" = sweep ]; then
    [ "$3" = --only ] || return 0
    dir=$(folder_of_sweep "$2")
    run_folders "$dir" | sed -n "$(($4 + 1))p"
  elif [ "$1" = scaling ]; then
    for grid in "${@:2}"; do
      [ ! -f "$grid" ] || run_folders "$(folder_of_sweep "$grid")"
    done
  else
    "${container[@]}" "$vbon" "$@" --dry-run 2>&1 | sed -n 's/^  \(dir\|path\|eval_path\): *"\{0,1\}\([^"]*\)"\{0,1\}$/\2/p'
  fi || true
}
