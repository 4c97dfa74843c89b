#!/usr/bin/env bash
# jobs/mpirun.sh [MPIRUN OPTIONS] PROGRAM [ARGUMENTS]: starts ranks on this one machine.
#
#   jobs/mpirun.sh -n 3 build/current/bin/vbon train -c config.yaml
#
# More ranks than cores are fine (waiting ranks sleep), root is fine, traffic stays on the machine, threads move freely
# between cores. Any OMPI_MCA_* variable already set wins. In an allocation of Slurm use
# jobs/launch.sh instead.
set -euo pipefail
[ $# -gt 0 ] || { sed -n 's/^# \{0,1\}//p' "$0" | tail -n +2; exit 2; }
command -v mpirun >/dev/null || { echo "mpirun.sh: no mpirun; run jobs/setup.sh or load your cluster's MPI module" >&2; exit 2; }
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_rmaps_base_oversubscribe=${OMPI_MCA_rmaps_base_oversubscribe:-1}
export OMPI_MCA_hwloc_base_binding_policy=${OMPI_MCA_hwloc_base_binding_policy:-none}
export OMPI_MCA_mpi_yield_when_idle=${OMPI_MCA_mpi_yield_when_idle:-1}
export OMPI_MCA_btl=${OMPI_MCA_btl:-self,vader}
export OMPI_MCA_oob_tcp_if_include=${OMPI_MCA_oob_tcp_if_include:-lo}
exec mpirun --quiet "$@"
