#!/usr/bin/env bash
# Submits work to Slurm and prints the number of the last job.
usage="usage: jobs/submit.sh JOB[,JOB...] FILE [SBATCH OPTIONS] [-- OPTIONS OF VBON]
  JOB   run     all stages of a recipe in one job           train   one training run
        pool    an array over shards, then the merge        eval    its evaluation
        sweep   shared stages, the array of runs, a report    scaling  grids on 1, 2, 4, ... of one job's tasks
        several (pool,train,eval): each begins when the one before it has succeeded
  FILE  the configuration; of a sweep its grid, of scaling one or several grids
  --array=0-7 of a pool: 8 shards (default 4; 0-7%2: two at a time)
  examples:
    jobs/submit.sh pool,train,eval configs/mine.yaml --nodes=2 --gpus-per-node=4 --ntasks-per-node=4
    jobs/submit.sh train configs/mine.yaml --dependency=afterok:4711 --time=12:00:00 -- -s run.seed=2
Partition, account, modules and places: jobs/cluster.env (docs/slurm.md)."

case ${1:--h} in -h | --help) echo "$usage"; exit 0 ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/slurm.sh"

[ $# -ge 2 ] || fail "$user_error" "$usage"
IFS=, read -ra names <<<"$1"
file=$2
shift 2
[ -f "$file" ] || fail "$user_error" "there is no file '$file'"
options=() shards='' last=''
while [ $# -gt 0 ] && [ "$1" != -- ]; do
  case $1 in
    --array=*) shards=$1 ;;
    *) options+=("$1") ;;
  esac
  shift
done
[ $# -eq 0 ] || shift
case ${shards:+,${names[*]},} in *pool* | '') ;; *) fail "$user_error" "--array is of pools; several runs are a sweep" ;; esac

after() {  # the dependency on the job before, if there is one
  if [ -n "$last" ]; then echo "--dependency=afterok:$last"; fi
}

for name in "${names[@]}"; do
  mapfile -t dependency < <(after)
  case $name in
    pool)
      last=$(submit pool "${shards:---array=0-3}" --output="$logs/%x-%A_%a.log" "${options[@]}" "${dependency[@]}" \
        -- "$file" "$@")
      last=$(submit pool --job-name=vbon-pool-merge "${options[@]}" --dependency="afterok:$last" -- "$file" --merge "$@") ;;
    run | train | eval) last=$(submit "$name" "${options[@]}" "${dependency[@]}" -- "$file" "$@") ;;
    scaling)
      [ ${#names[@]} = 1 ] || fail "$user_error" "scaling is submitted alone"
      last=$(submit scaling "${options[@]}" -- "$file" "$@") ;;
    sweep)
      [ "$# ${#names[@]}" = "0 1" ] || fail "$user_error" "a sweep is submitted alone; its grid has its settings"
      script=$(mktemp)
      trap 'rm -f "$script"' EXIT
      "${container[@]}" "$vbon" sweep "$file" --slurm "$script" >/dev/null
      bash "$script" "${options[@]}"
      exit ;;
    *) fail "$user_error" "unknown job '$name'
$usage" ;;
  esac
  say "$name: job $last" >&2
done
echo "$last"
