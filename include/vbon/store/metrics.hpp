// The figures of a run. metrics.jsonl is the record: one JSON object a step, on disk when append() returns. metrics.h5
// (`vbon.metrics`) is rewritten from it.
//
// A line: {"step": 3, "episodes": 192, "tokens": 3840, "reward": -0.5, ..., "time": {"sample": [s of rank 0, ...],
// ...}}. Everything timed (seconds a phase and idle, tokens/s) lies under "time", one value a rank: two runs that agree
// have equal lines without it. A figure that was not measured, or is not finite, is null and reads as NaN.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "vbon/base/files.hpp"
#include "vbon/store/provenance.hpp"

namespace vbon {

inline constexpr std::string_view kMetricsFormat = "vbon.metrics";
inline constexpr std::int64_t kMetricsSchema = 1;

struct MetricsRow {
  std::int64_t step = 0;
  std::int64_t episodes = 0;                        // sequences learned from so far
  std::int64_t tokens = 0;                          // new tokens of theirs
  std::map<std::string, double> values;             // by metric; names are [A-Za-z0-9_.-]+
  std::map<std::string, std::vector<double>> time;  // phase -> one value a rank ("idle" among them)
};

std::string to_json_line(const MetricsRow& row);
MetricsRow parse_metrics_line(std::string_view line, const std::string& where);  // UserError

// The complete lines of metrics.jsonl, steps ascending; a torn last line is left out. Absent file: none.
std::vector<MetricsRow> read_metrics(const fs::path& jsonl);

// What differs between two records of one step, bit by bit and without time: "reward: 0.5 and 0.25", one text a metric.
std::vector<std::string> differences(const MetricsRow& a, const MetricsRow& b);

// metrics.h5: `step`, `episodes`, `tokens` int64 [S]; one float64 [S] a metric (NaN: not measured); /time/PHASE float64
// [S, ranks] (NaN where a step had fewer ranks). Commits; returns the content's SHA-256, which time does not enter.
std::string write_metrics_h5(const fs::path& path, const Provenance& provenance, std::span<const MetricsRow> rows);
std::vector<MetricsRow> read_metrics_h5(const fs::path& path);  // NaN for what is not measured in a row

// The record of one run in the making.
class MetricsLog {
 public:
  // Keeps the rows up to `last_step` (a checkpoint's; -1: none) and cuts the others off the file, which rewrites it.
  MetricsLog(fs::path jsonl, std::int64_t last_step);

  const std::vector<MetricsRow>& rows() const { return rows_; }
  // Rows past the checkpoint, of an earlier attempt: append() compares replayed steps with them and warns.
  const std::vector<MetricsRow>& cut_rows() const { return cut_; }
  // Steps must rise; a step's row goes out before its checkpoint is committed. Returns the differences to the same step
  // of an earlier attempt ({}: equal, or not seen before).
  std::vector<std::string> append(const MetricsRow& row);

 private:
  fs::path path_;
  std::vector<MetricsRow> rows_;
  std::vector<MetricsRow> cut_;
  std::unique_ptr<LineAppender> lines_;
};

}  // namespace vbon
