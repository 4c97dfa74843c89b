// The time of a step by terms that `python -m analysis scaling` fitted on measured runs: the formula of
// analysis/scaling_model.py, whose file (scaling.json) the terms come from.
//
//   t = fixed + compute n / p + update u + latency log2 p + bytes s
//
// p ranks that do everything, n sequences and u updates a step, s bytes that a rank sends in it: u 2 g (p - 1) / p with
// a gradient of g bytes.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace vbon {

struct StepTerms {
  double fixed = 0, compute = 0, update = 0, latency = 0, bytes = 0;  // seconds

  template <class V, class Self>
  static void visit(V&& v, Self& t) {
    v("fixed", t.fixed);
    v("compute", t.compute);
    v("update", t.update);
    v("latency", t.latency);
    v("bytes", t.bytes);
  }
  double sum() const { return fixed + compute + update + latency + bytes; }
  double communication() const { return latency + bytes; }
};

struct StepModel {
  StepTerms terms;            // a step; a sequence; an update; a doubling of the ranks; a byte
  int most_ranks = 0;         // that it was fitted on
  double relative_error = 0;  // the largest there
  double gradient_bytes = 0;
  // Keys of the configuration that it holds for, and their values as text.
  std::vector<std::pair<std::string, std::string>> measured_with;
};

// What each term gives to a step, in seconds.
StepTerms step_times(const StepModel& model, int ranks, double sequences, double updates, double sent_bytes);

// UserError for what is no scaling.json of analysis, or has negative or infinite terms.
StepModel parse_step_model(std::string_view text, const std::string& name);

}  // namespace vbon
