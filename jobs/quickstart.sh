#!/usr/bin/env bash
# The whole pipeline on a real language model and real reviews: fine-tune, reward, pool, vBoN, evaluation, report.
# Installs and builds what is missing; run again, it continues where it stopped. Arguments go to vbon
# (-s section.key=value ...).
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
cd "$root"

begin=$SECONDS
"$root/jobs/setup.sh" --with-data
setup_end=$SECONDS
"$root/build/current/bin/vbon" run -c configs/quickstart.yaml "$@"
say "set-up $((setup_end - begin)) s, pipeline $((SECONDS - setup_end)) s; results are in $root/runs/quickstart"
