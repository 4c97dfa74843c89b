#include <cstdio>
#include <nlohmann/json.hpp>

#include "vbon/base/version.hpp"
#include "vbon/cli/commands.hpp"
#include "vbon/cli/table.hpp"
#include "vbon/model/cuda_library.hpp"
#include "vbon/store/hdf5.hpp"
#include "vbon/train/run_inputs.hpp"

namespace vbon::cli {

ExitCode run_version_command(const CommandLine& line) {
  const std::vector<std::pair<std::string, std::string>> versions = {
      {"vbon", version()},
      {"torch", torch_version()},
      {"mpi", comm::mpi_library_version()},
      {"hdf5", hdf5_version()},
      {"cuda", has_cuda_build() ? "built in" : "not built in"}};
  if (line.json) {
    nlohmann::json out;
    for (const auto& [name, value] : versions) out[name] = value;
    fmt::print("{}\n", out.dump());
    return ExitCode::ok;
  }
  for (const auto& [name, value] : versions) fmt::print("{:<6} {}\n", name, value);
  return ExitCode::ok;
}

}  // namespace vbon::cli
