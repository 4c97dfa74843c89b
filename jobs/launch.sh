#!/usr/bin/env bash
# jobs/launch.sh [-n RANKS] PROGRAM [ARGUMENTS]: starts ranks, wherever it is called.
#
# In an allocation of Slurm by srun with PMIx, one a task (where srun has no PMIx by mpirun); elsewhere on this machine,
# by jobs/mpirun.sh. USR1 goes on to all ranks; a rank that dies ends the others. The jobs start their ranks with it, and
# `launch:` of a sweep's grid can name it.
[ $# -gt 0 ] || { sed -n 's/^# \{0,1\}//p' "$0" | tail -n +2; exit 2; }
source "$(dirname "${BASH_SOURCE[0]}")/slurm.sh"
launch "$@"
