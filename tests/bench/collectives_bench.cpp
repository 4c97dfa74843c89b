// Throughput of all_reduce and broadcast on host memory: the gradients of a 124M-parameter model (498 MiB of floats)
// whole and in pieces, beside MPI_Allreduce itself. Not a test: run on an idle machine
//
//   jobs/mpirun.sh -n 2 build/release/tests/bench/collectives_bench [MiB] [ROUNDS]
//
// Every round runs every variant, so that a change of load meets all of them; the sums are checked in the same run.
#define OMPI_SKIP_MPICXX 1
#include <fmt/core.h>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/comm/collectives.hpp"

namespace {

using namespace vbon;
using namespace vbon::comm;

struct Variant {
  std::string name;
  std::function<void(std::vector<float>&)> work;
  bool sums = true;  // false: the values stay as they are
  std::unique_ptr<Collectives> own;
  std::vector<double> seconds;
  double idle_s = 0.0;
};

constexpr int kPieceKib[] = {128, 256, 512, 1024, 2048, 4096, 16384};

std::vector<Variant> variants(MpiRuntime& mpi, std::size_t count) {
  std::vector<Variant> result;
  const auto plain = [](std::size_t piece) {
    return [piece](std::vector<float>& values) {
      for (std::size_t at = 0; at < values.size(); at += piece)
        MPI_Allreduce(MPI_IN_PLACE, values.data() + at, static_cast<int>(std::min(piece, values.size() - at)),
                      MPI_FLOAT, MPI_SUM, MPI_COMM_WORLD);
    };
  };
  result.push_back({.name = "MPI_Allreduce, whole", .work = plain(count)});
  result.push_back({.name = "MPI_Allreduce, 2 MiB pieces", .work = plain(std::size_t{1} << 19)});
  const auto add = [&](const std::string& name, std::int64_t piece_bytes, bool sums) {
    auto own = make_collectives(mpi.world().dup("bench"), Backend::host, {.piece_bytes = piece_bytes});
    Collectives* all = own.get();
    const auto work = [all, sums](std::vector<float>& values) {
      if (sums) all->all_reduce(std::span<float>(values), Reduction::sum, "gradients");
      else all->broadcast(std::span<float>(values), 0, "weights");
    };
    result.push_back({.name = name, .work = work, .sums = sums, .own = std::move(own)});
  };
  add("all_reduce, whole", std::int64_t{1} << 40, true);
  for (const int kib : kPieceKib) add(fmt::format("all_reduce, {} KiB pieces", kib), std::int64_t{kib} << 10, true);
  for (const int kib : kPieceKib) add(fmt::format("broadcast, {} KiB pieces", kib), std::int64_t{kib} << 10, false);
  return result;
}

void run_once(Variant& variant, std::vector<float>& values, Collectives& all, bool count_it) {
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(i % 1000);
  all.barrier("round");
  const double idle_before = all.idle_seconds();
  const auto start = std::chrono::steady_clock::now();
  variant.work(values);
  const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  const auto factor = static_cast<float>(variant.sums ? all.size() : 1);
  for (std::size_t i = 0; i < values.size(); i += 997)
    check(values[i] == static_cast<float>(i % 1000) * factor, "the result is right");
  if (!count_it) return;
  variant.seconds.push_back(seconds);
  variant.idle_s += all.idle_seconds() - idle_before;
}

void report(Variant& variant, double bytes, int ranks) {
  std::vector<double>& seconds = variant.seconds;
  std::sort(seconds.begin(), seconds.end());
  const double median = seconds[seconds.size() / 2];
  double sum = 0.0;
  for (const double s : seconds) sum += s;
  const double bus = variant.sums ? 2.0 * (ranks - 1) / ranks : 1.0;
  fmt::print(
      "{:28} median {:7.1f} ms  best {:7.1f}  worst {:7.1f}  algbw {:5.2f} (best {:5.2f}) GB/s  busbw {:5.2f} "
      "GB/s  asleep {:4.1f} %\n",
      variant.name, median * 1e3, seconds.front() * 1e3, seconds.back() * 1e3, bytes / median / 1e9,
      bytes / seconds.front() / 1e9, bytes / median / 1e9 * bus, 100 * variant.idle_s / sum);
}

}  // namespace

int main(int argc, char** argv) {
  MpiRuntime mpi(argc, argv);
  const std::size_t mib = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 498;
  const int rounds = argc > 2 ? std::atoi(argv[2]) : 10;
  const auto all = make_collectives(mpi.world().dup("rounds"), Backend::host);
  std::vector<float> values(mib << 18);
  std::vector<Variant> candidates = variants(mpi, values.size());
  if (all->rank() == 0)
    fmt::print("{} ranks, {} MiB of float32, {} rounds, {}\n", all->size(), mib, rounds, mpi_library_version());
  for (int round = -1; round < rounds; ++round)
    for (Variant& variant : candidates) run_once(variant, values, *all, round >= 0);
  if (all->rank() == 0)
    for (Variant& variant : candidates) report(variant, static_cast<double>(mib << 20), all->size());
  return 0;
}
