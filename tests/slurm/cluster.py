"""A real Slurm on this machine: slurmctld, munged, virtual nodes with stand-ins for GPUs, on the loopback device only.

Needs root and the packages slurm-wlm and munge; no systemd, no configuration of the machine's own. By hand:
    python3 tests/slurm/cluster.py [NODES]      starts it, prints what to export, stops it when its input ends
"""

import contextlib
import os
import pathlib
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import time

GPUS = 2
DAEMONS = ("munged", "slurmctld", "slurmd", "slurmstepd")

CONF = """
ClusterName=vbon
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A requeued job waits until its credential has expired, and a second.
AuthInfo=socket={root}/munge.socket,cred_expire=5
CommunicationParameters=NoInAddrAny,NoCtldInAddrAny
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool/%n
TmpFS={root}/tmp/%n
SlurmctldPidFile={root}/slurmctld.pid
SlurmdPidFile={root}/slurmd-%n.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
TaskProlog={root}/task-prolog
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MailProg=/bin/true
MpiDefault=none
ReturnToService=2
SchedulerParameters=batch_sched_delay=0,sched_interval=1,bf_interval=1
KillWait=5
MinJobAge=3600
GresTypes=gpu
NodeName=n[1-{nodes}] NodeHostname=localhost NodeAddr=127.0.0.1 Port=[{ports[1]}-{last}] \\
  CPUs=2 RealMemory=4000 Gres=gpu:{gpus} State=UNKNOWN
PartitionName=main Nodes=n[1-{nodes}] Default=YES MaxTime=INFINITE State=UP
"""

# Ranks on virtual nodes would take each other's shared memory for that of their own node: names hold the host's alone.
PROLOG = """#!/bin/sh
echo "export OMPI_MCA_btl_vader_backing_directory={root}/tmp/$SLURMD_NODENAME"
echo "export OMPI_MCA_osc_sm_backing_directory={root}/tmp/$SLURMD_NODENAME"
echo "export OMPI_MCA_btl_tcp_if_include=lo"
echo "export OMPI_MCA_oob_tcp_if_include=lo"
"""


def free_ports(count):
    """So many free ones in a row."""
    for first in range(20000 + os.getpid() % 10000, 60000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
            return list(range(first, first + count))
        except OSError:
            continue
    raise RuntimeError("no free ports")


class Cluster:
    def __init__(self, nodes=4):
        self.nodes = nodes
        # Short: Unix sockets have short names. Nobody else may write above the key.
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="vs-", dir="/tmp"))
        self.root.chmod(0o755)
        self.processes = []
        self.environment = {"SLURM_CONF": str(self.root / "slurm.conf")}

    def __enter__(self):
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_):
        self.stop()

    def start(self):
        root, names = self.root, [f"n{i + 1}" for i in range(self.nodes)]
        for folder in ["state", "dev", *(f"{kind}/{name}" for kind in ("spool", "tmp") for name in names)]:
            (root / folder).mkdir(parents=True)
        for i in range(GPUS):
            os.mknod(root / f"dev/gpu{i}", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
        ports = free_ports(self.nodes + 1)
        (root / "slurm.conf").write_text(
            CONF.format(root=root, nodes=self.nodes, gpus=GPUS, ports=ports, last=ports[-1])
        )
        (root / "gres.conf").write_text(f"Name=gpu File={root}/dev/gpu[0-{GPUS - 1}]\n")
        (root / "task-prolog").write_text(PROLOG.format(root=root))
        (root / "task-prolog").chmod(0o755)
        (root / "munge.key").write_bytes(os.urandom(1024))
        (root / "munge.key").chmod(0o400)
        self.run_daemon(
            "munged",
            "--foreground",
            "--num-threads=2",
            f"--key-file={root}/munge.key",
            f"--socket={root}/munge.socket",
            f"--pid-file={root}/munged.pid",
            f"--log-file={root}/munged.log",
            f"--seed-file={root}/munged.seed",
        )
        self.wait_for("munged", (root / "munge.socket").exists)
        self.run_daemon("slurmctld", "-D", "-f", root / "slurm.conf")
        for name in names:
            self.run_daemon("slurmd", "-D", "-f", root / "slurm.conf", "-N", name)
        self.wait_for("nodes", lambda: self.ask("sinfo", "-h", "-t", "idle", "-o", "%D").strip() == str(self.nodes))

    def run_daemon(self, name, *arguments):
        program = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
        if program is None:
            raise RuntimeError(f"no {name}: jobs/setup.sh --with-slurm installs Slurm")
        output = (self.root / f"{name}.out").open("a")
        self.processes.append(
            subprocess.Popen(
                [program, *map(str, arguments)],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment},
                cwd=self.root,
            )
        )

    def wait_for(self, what, condition, seconds=30):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline or any(process.poll() is not None for process in self.processes):
                raise RuntimeError(f"Slurm does not start ({what}):\n{self.logs()}")
            time.sleep(0.1)

    def logs(self, lines=20):
        text = ""
        for path in [*sorted(self.root.glob("*.log")), *sorted(self.root.glob("*.out"))]:
            text += f"--- {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-lines:]) + "\n"
        return text

    def ask(self, *command):
        done = subprocess.run(
            [*map(str, command)], env={**os.environ, **self.environment}, capture_output=True, text=True, timeout=30
        )
        return done.stdout

    def processes_left(self):
        """Daemons of this cluster, and what it still runs: they have its configuration or name its folder."""
        found = []
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                alive = (entry / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
            except OSError:
                continue
            if alive and str(self.root).encode() in words and int(entry.name) != os.getpid():
                found.append(int(entry.name))
        return found

    def stop(self):
        """Jobs, daemons, files; returns when nothing of it is left. RuntimeError if something had to be killed."""
        if any(process.poll() is None for process in self.processes):
            self.ask("scancel", "--user=root")
            deadline = time.monotonic() + 15
            while self.ask("squeue", "-h") and time.monotonic() < deadline:
                time.sleep(0.2)
        for process in reversed(self.processes):  # munged last
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
        left = self.processes_left()
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, 9)
        for process in self.processes:
            process.wait()
        logs = self.logs()
        shutil.rmtree(self.root)
        if left:
            raise RuntimeError(f"{len(left)} processes of Slurm had to be killed:\n{logs}")


if __name__ == "__main__":
    with Cluster(int(sys.argv[1]) if len(sys.argv) > 1 else 4) as by_hand:
        print(f"export SLURM_CONF={by_hand.root}/slurm.conf", flush=True)
        sys.stdin.read()
