#!/usr/bin/env bash
# isolated.sh COMMAND...: runs it with processes and shared memory of its own, which end with it however it ends (also
# when it is killed). Where the machine does not allow that, it runs as it is, and its own cleaning up has to do.
apart=(unshare --mount --pid --ipc --fork --kill-child --mount-proc)
if "${apart[@]}" mount -t tmpfs none /dev/shm 2>/dev/null; then
  # The shell stays: as the first process it collects those that lose their parents.
  exec "${apart[@]}" bash -c 'mount -t tmpfs none /dev/shm; VBON_ISOLATED=1 "$@"; exit $?' bash "$@"
fi
exec "$@"
