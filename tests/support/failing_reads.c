// A disk that no longer gives a file back: reading one whose path ends in $FAILING_READS is an input/output error.
// For tests: LD_PRELOAD=libfailing_reads.so FAILING_READS=policy/model.safetensors vbon ...
#define _GNU_SOURCE
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static int fails(int file) {
  const char* end = getenv("FAILING_READS");
  char link[64], path[PATH_MAX];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, path, sizeof path);
  const size_t tail = end ? strlen(end) : 0;
  return tail > 0 && length >= (ssize_t)tail && memcmp(path + length - tail, end, tail) == 0;
}

ssize_t read(int file, void* buffer, size_t count) {
  if (!fails(file)) return syscall(SYS_read, file, buffer, count);
  errno = EIO;
  return -1;
}

ssize_t pread(int file, void* buffer, size_t count, off_t offset) {
  if (!fails(file)) return syscall(SYS_pread64, file, buffer, count, offset);
  errno = EIO;
  return -1;
}
