#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "cli/bounded.hpp"
#include "cli/doctor.hpp"
#include "vbon/base/log.hpp"

namespace vbon::cli {
namespace {

namespace fs = std::filesystem;

constexpr double kDiskTimeout = 30, kConfigurationTimeout = 300;

// Findings of `work`, which may hang (a dead network file system); `hung` is set when it does.
template <class Work>
void bounded(Findings& findings, const std::string& area, double timeout_s, bool& hung, Work work) {
  const auto found = within(timeout_s, [work = std::move(work)] {
    Findings own;
    work(own);
    return own;
  });
  if (found) return findings.add(*found);
  hung = true;
  findings.bad(area, fmt::format("no answer within {:.0f} s", timeout_s),
               "a file system that hangs? See whether `ls` answers there");
}

std::optional<Loaded> load(const CommandLine& line, Findings& findings) {
  if (line.config.empty() && line.overrides.empty()) return std::nullopt;
  try {
    return load_settings(line, {});
  } catch (const UserError& e) {
    findings.bad("configuration", e.what(), "`vbon help config` lists all keys");
    return std::nullopt;
  }
}

fs::path scratch_folder() {
  std::error_code error;
  const fs::path folder = fs::temp_directory_path(error);
  const char* const named = std::getenv("TMPDIR");
  return error ? fs::path(named == nullptr ? "/tmp" : named) : folder;
}

}  // namespace

std::string_view name_of(Verdict verdict) {
  return verdict == Verdict::ok ? "ok" : verdict == Verdict::warn ? "warn" : "bad";
}

std::size_t Findings::count(Verdict verdict) const {
  return static_cast<std::size_t>(
      std::count_if(all_.begin(), all_.end(), [&](const Finding& f) { return f.verdict == verdict; }));
}

std::string findings_text(const Findings& findings) {
  std::size_t width = 0;
  for (const Finding& f : findings.all()) width = std::max(width, f.area.size());
  std::string text;
  for (const Finding& f : findings.all()) {
    text += fmt::format("{:<4}  {:<{}}  {}\n", name_of(f.verdict), f.area, width, f.what);
    if (!f.remedy.empty()) text += fmt::format("{:<{}}-> {}\n", "", width + 8, f.remedy);
  }
  return text + fmt::format("{} ok, {} to look at, {} to mend\n", findings.count(Verdict::ok),
                            findings.count(Verdict::warn), findings.count(Verdict::bad));
}

std::string findings_json(const Findings& findings) {
  nlohmann::ordered_json list = nlohmann::ordered_json::array();
  for (const Finding& f : findings.all())
    list.push_back({{"area", f.area}, {"verdict", name_of(f.verdict)}, {"what", f.what}, {"remedy", f.remedy}});
  return nlohmann::ordered_json{{"ok", findings.count(Verdict::ok)},
                                {"warn", findings.count(Verdict::warn)},
                                {"bad", findings.count(Verdict::bad)},
                                {"findings", list}}
      .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

ExitCode run_doctor_command(const CommandLine& line) {
  Findings findings, libraries;
  check_mpi(libraries);  // with all ranks, where there are several
  if (!log::is_root()) return ExitCode::ok;
  const std::optional<Loaded> loaded = load(line, findings);
  check_program(findings);
  check_machine(findings);
  check_cuda(libraries, loaded && loaded->settings().cluster.device == comm::DeviceKind::cuda);
  check_torch(libraries);
  check_hdf5(libraries);
  findings.add(libraries);
  bool hung = false;
  const fs::path run =
      loaded && !loaded->settings().run.dir.empty() ? fs::path(loaded->settings().run.dir) : fs::path(".");
  for (const auto& [area, folder] : {std::pair<std::string, fs::path>{"scratch", scratch_folder()}, {"disk", run}})
    bounded(findings, area, kDiskTimeout, hung,
            [area = area, folder = folder](Findings& own) { check_disk(own, area, folder); });
  check_limits(findings);
  check_environment(findings);
  if (loaded)
    bounded(findings, "configuration", kConfigurationTimeout, hung,
            [&loaded](Findings& own) { check_configuration(own, *loaded); });
  fmt::print("{}{}", line.json ? findings_json(findings) : findings_text(findings), line.json ? "\n" : "");
  std::fflush(stdout);
  const ExitCode code = findings.count(Verdict::bad) > 0 ? ExitCode::user : ExitCode::ok;
  if (hung) std::_Exit(static_cast<int>(code));  // a thread of ours still waits for its file system
  return code;
}

}  // namespace vbon::cli
