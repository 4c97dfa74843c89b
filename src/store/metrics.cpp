#include "vbon/store/metrics.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <set>

#include "store/strict_json.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/words.hpp"
#include "vbon/store/h5_commit.hpp"

namespace vbon {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr std::size_t kMaxRanks = 1 << 16;

bool is_name(std::string_view name) {
  const auto plain = [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-' || c == '.'; };
  return !name.empty() && name.size() < 128 && std::all_of(name.begin(), name.end(), plain) && name != "." &&
         name != "..";
}

bool is_reserved(std::string_view name) {
  return name == "step" || name == "episodes" || name == "tokens" || name == "time";
}

double number_of(const nlohmann::json& value, const std::string& where) {
  if (value.is_null()) return kNan;
  require(value.is_number(), "{}: a metric is neither a number nor null", where);
  return value.get<double>();
}

std::int64_t count_of(const nlohmann::json& row, const char* name, const std::string& where) {
  require(row.contains(name) && row[name].is_number_unsigned() &&
              row[name].get<std::uint64_t>() <= static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()),
          "{}: '{}' is missing or no count", where, name);
  return row[name].get<std::int64_t>();
}

std::vector<double> times_of(const nlohmann::json& value, const std::string& where) {
  require(value.is_array() && value.size() <= kMaxRanks, "{}: times are lists, one value a rank", where);
  std::vector<double> times;
  for (const auto& entry : value) times.push_back(number_of(entry, where));
  return times;
}

bool same(double a, double b) {
  return (std::isnan(a) && std::isnan(b)) || std::bit_cast<std::uint64_t>(a) == std::bit_cast<std::uint64_t>(b);
}

double value_or_nan(const MetricsRow& row, const std::string& name) {
  const auto at = row.values.find(name);
  return at == row.values.end() ? kNan : at->second;
}

void require_rising(std::span<const MetricsRow> rows, const std::string& where) {
  for (std::size_t i = 1; i < rows.size(); ++i)
    require(rows[i - 1].step < rows[i].step, "{}: step {} follows step {}", where, rows[i].step, rows[i - 1].step);
}

template <class Get>
std::vector<std::int64_t> column(std::span<const MetricsRow> rows, Get get) {
  std::vector<std::int64_t> values;
  for (const MetricsRow& row : rows) values.push_back(get(row));
  return values;
}

void write_times(H5File& file, std::span<const MetricsRow> rows) {
  std::set<std::string> phases;
  std::size_t ranks = 0;
  for (const MetricsRow& row : rows)
    for (const auto& [phase, times] : row.time) {
      phases.insert(phase);
      ranks = std::max(ranks, times.size());
    }
  for (const std::string& phase : phases) {
    std::vector<double> matrix;  // [S, ranks]
    for (const MetricsRow& row : rows) {
      const auto at = row.time.find(phase);
      std::vector<double> times = at == row.time.end() ? std::vector<double>{} : at->second;
      times.resize(ranks, kNan);
      matrix.insert(matrix.end(), times.begin(), times.end());
    }
    file.write("time/" + phase, {static_cast<std::int64_t>(rows.size()), static_cast<std::int64_t>(ranks)}, matrix);
  }
}

}  // namespace

std::string to_json_line(const MetricsRow& row) {
  nlohmann::ordered_json line = {{"step", row.step}, {"episodes", row.episodes}, {"tokens", row.tokens}};
  for (const auto& [name, value] : row.values) {
    check(is_name(name) && !is_reserved(name), "metrics have plain names of their own");
    line[name] = value;  // NaN and infinity become null
  }
  for (const auto& [phase, times] : row.time) {
    check(is_name(phase), "phases have plain names");
    line["time"][phase] = times;
  }
  return line.dump();
}

MetricsRow parse_metrics_line(std::string_view line, const std::string& where) {
  const nlohmann::json parsed = parse_strict_json(line, 3, where);
  require(parsed.is_object(), "{} is no JSON object", where);
  MetricsRow row;
  row.step = count_of(parsed, "step", where);
  row.episodes = count_of(parsed, "episodes", where);
  row.tokens = count_of(parsed, "tokens", where);
  for (const auto& [name, value] : parsed.items()) {
    require(is_name(name), "{}: '{}' is no name of a metric", where, name);
    if (!is_reserved(name)) row.values[name] = number_of(value, where);
  }
  if (!parsed.contains("time")) return row;
  require(parsed["time"].is_object(), "{}: 'time' is no object", where);
  for (const auto& [phase, times] : parsed["time"].items()) {
    require(is_name(phase), "{}: '{}' is no name of a phase", where, phase);
    row.time[phase] = times_of(times, where);
  }
  return row;
}

std::vector<MetricsRow> read_metrics(const fs::path& jsonl) {
  std::vector<MetricsRow> rows;
  if (!fs::exists(jsonl)) return rows;
  const std::vector<std::string> lines = read_complete_lines(jsonl);
  for (std::size_t i = 0; i < lines.size(); ++i)
    rows.push_back(parse_metrics_line(lines[i], fmt::format("line {} of '{}'", i + 1, jsonl.string())));
  require_rising(rows, "'" + jsonl.string() + "'");
  return rows;
}

std::vector<std::string> differences(const MetricsRow& a, const MetricsRow& b) {
  std::vector<std::string> found;
  if (a.episodes != b.episodes) found.push_back(fmt::format("episodes: {} and {}", a.episodes, b.episodes));
  if (a.tokens != b.tokens) found.push_back(fmt::format("tokens: {} and {}", a.tokens, b.tokens));
  std::set<std::string> names;
  for (const MetricsRow* row : {&a, &b})
    for (const auto& [name, value] : row->values) names.insert(name);
  for (const std::string& name : names) {
    const double x = value_or_nan(a, name), y = value_or_nan(b, name);
    const bool both_unmeasured = !std::isfinite(x) && !std::isfinite(y);  // null in the record
    if (!both_unmeasured && !same(x, y)) found.push_back(fmt::format("{}: {} and {}", name, x, y));
  }
  return found;
}

std::string write_metrics_h5(const fs::path& path, const Provenance& provenance, std::span<const MetricsRow> rows) {
  require_rising(rows, "the metrics for '" + path.string() + "'");
  const auto s = static_cast<std::int64_t>(rows.size());
  return write_h5_atomically(path, [&](H5File& file) {
    write_provenance(file, kMetricsFormat, kMetricsSchema, provenance);
    file.write("step", {s}, column(rows, [](const MetricsRow& row) { return row.step; }));
    file.write("episodes", {s}, column(rows, [](const MetricsRow& row) { return row.episodes; }));
    file.write("tokens", {s}, column(rows, [](const MetricsRow& row) { return row.tokens; }));
    std::set<std::string> names;
    for (const MetricsRow& row : rows)
      for (const auto& [name, value] : row.values) names.insert(name);
    for (const std::string& name : names) {
      std::vector<double> values;
      for (const MetricsRow& row : rows) values.push_back(value_or_nan(row, name));
      file.write(name, {s}, values);
    }
    write_times(file, rows);
  });
}

std::vector<MetricsRow> read_metrics_h5(const fs::path& path) {
  const H5File file = open_h5(path, kMetricsFormat, kMetricsSchema);
  const auto steps = file.read<std::int64_t>("step", {kAnySize});
  const auto s = static_cast<std::int64_t>(steps.size());
  const auto episodes = file.read<std::int64_t>("episodes", {s});
  const auto tokens = file.read<std::int64_t>("tokens", {s});
  std::vector<MetricsRow> rows(steps.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].step = steps[i];
    rows[i].episodes = episodes[i];
    rows[i].tokens = tokens[i];
  }
  for (const std::string& name : file.members()) {
    if (is_reserved(name)) continue;
    const auto values = file.read<double>(name, {s});
    for (std::size_t i = 0; i < rows.size(); ++i) rows[i].values[name] = values[i];
  }
  if (file.has_group("time"))
    for (const std::string& phase : file.group("time").members()) {
      const H5Dataset dataset = file.dataset("time/" + phase, H5Type::float64, {s, kAnySize});
      const auto ranks = static_cast<std::ptrdiff_t>(dataset.shape()[1]);
      const auto times = dataset.read<double>();
      for (std::size_t i = 0; i < rows.size(); ++i) {
        const auto begin = times.begin() + static_cast<std::ptrdiff_t>(i) * ranks;
        rows[i].time[phase].assign(begin, begin + ranks);
      }
    }
  require_rising(rows, "'" + path.string() + "'");
  return rows;
}

MetricsLog::MetricsLog(fs::path jsonl, std::int64_t last_step) : path_(std::move(jsonl)) {
  for (MetricsRow& row : read_metrics(path_)) (row.step <= last_step ? rows_ : cut_).push_back(std::move(row));
  std::string kept;
  for (const MetricsRow& row : rows_) kept += to_json_line(row) + "\n";
  // Also without cut rows: a torn last line would otherwise be joined with the next one.
  if (!fs::exists(path_) || read_file(path_, std::uint64_t{1} << 36) != kept) write_file_atomically(path_, kept);
  lines_ = std::make_unique<LineAppender>(path_);
}

std::vector<std::string> MetricsLog::append(const MetricsRow& row) {
  check(rows_.empty() || rows_.back().step < row.step, "steps rise");
  lines_->append(to_json_line(row));
  rows_.push_back(row);
  const auto earlier =
      std::find_if(cut_.begin(), cut_.end(), [&](const MetricsRow& cut) { return cut.step == row.step; });
  return earlier == cut_.end() ? std::vector<std::string>{} : differences(*earlier, row);
}

}  // namespace vbon
