#!/usr/bin/env bash
# jobs/scaling.sh [-o FIGURES] [GRID...]: what more ranks are worth. Runs the grids, one run after the other, each on its
# own number of ranks, then draws throughput, efficiency, time and idle by role and communication, fits a model of a
# step's time and says what it predicts. What is done is skipped.
#
#   jobs/scaling.sh                       strong, weak, roles and chunks of configs/small/scaling: minutes on two cores
#   jobs/scaling.sh grids/strong.yaml     yours: a grid of `vbon sweep` whose runs say their `ranks`
#   vbon plan -c CONFIG --ranks 64 --model runs/scaling/figures/scaling.json     the same model, for another plan
#
# FIGURES: default runs/scaling/figures. Measure on a machine that does nothing else. On Slurm: jobs/submit.sh scaling.
case ${1:-} in -h | --help) sed -n 's/^# \{0,1\}//p' "$0" | tail -n +2; exit 0 ;; esac
source "$(dirname "${BASH_SOURCE[0]}")/slurm.sh"

figures=runs/scaling/figures
if [ "${1:-}" = -o ]; then
  [ $# -ge 2 ] || fail "$user_error" "-o needs the folder of the figures"
  figures=$2
  shift 2
fi
grids=("$@")
if [ ${#grids[@]} -eq 0 ]; then
  small=configs/small/scaling
  [ -d "$small" ] || fail "$user_error" "no grid is named, and '$small' is not here: start it where configs/ is"
  grids=("$small"/{strong,weak,roles,chunks}.yaml)
  if [ ! -f runs/scaling/data/prompts.jsonl ]; then run_python "$small/make.py" runs/scaling/data; fi
fi
[ ${#container[@]} -gt 0 ] || [ -x "$vbon" ] || fail "$user_error" "no program '$vbon': build it (jobs/setup.sh), or name it in VBON"

folders=()
for grid in "${grids[@]}"; do
  [ -f "$grid" ] || fail "$user_error" "there is no grid '$grid'"
  say "$grid"
  run_alone sweep "$grid"
  folder=$(folder_of_sweep "$grid")
  [ -f "$folder/sweep.json" ] || fail "$user_error" "the sweep of '$grid' left no sweep.json in '$folder'"
  folders+=("$folder")
done
own=()  # ranks of one machine that share cores are shown and not fitted
if [ -z "$job" ]; then own=(--fit-up-to "$(env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc)"); fi
analysis scaling "${folders[@]}" "${own[@]}" -o "$figures"
