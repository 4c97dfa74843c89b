#!/usr/bin/env bash
# The whole pipeline on a real language model and real reviews: fine-tune, reward, pool, vBoN, evaluation, report.
# Installs and builds what is missing; run again, it continues where it stopped. Arguments go to vbon
# (-s section.key=value ...).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

begin=$SECONDS
"$root/jobs/setup.sh" --with-data
setup_end=$SECONDS
# Two ranks that do everything, each with half of the cores: they make a pool as fast as a rollout worker, a reward scorer
# and a learner (-n 3), which each have all cores while they work, or a tenth faster where two threads share a core.
"$root/jobs/mpirun.sh" -n 2 "$root/build/current/bin/vbon" run -c configs/quickstart.yaml \
  -s cluster.roles=all -s train.chunk_prompts=8 "$@"
pipeline_end=$SECONDS

run=runs/quickstart/vbon-n4
if [ -f "$run/finished" ]; then  # not when the arguments name another run.dir
  say "reward, and the evaluator's probability of praise, of samples before and after:"
  analysis samples "$run"
  analysis report "$run" --picture "runs/quickstart/kl-win.png" >/dev/null
  say "picture: runs/quickstart/kl-win.png, report: $run/report.html"
fi
say "set-up $((setup_end - begin)) s, pipeline $((pipeline_end - setup_end)) s"
