// How responses are drawn: the part of the configuration that, with the reference, defines what F and BoN mean.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "vbon/base/fields.hpp"

namespace vbon {

struct SamplingConfig {
  double temperature = 1.0;
  std::int64_t max_new_tokens = 40;
  std::int64_t top_k = 0;
  double top_p = 1.0;
  std::int64_t slots = 128;

  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.temperature, {.name = "temperature", .help = "of the softmax, for sampling and in every log-probability; > 0"});
    v(c.max_new_tokens,
      {.name = "max_new_tokens", .help = "a response is cut after this many tokens", .unit = "tokens"});
    v(c.top_k, {.name = "top_k", .help = "keep the k likeliest tokens (0: all); for `vbon sample` only"});
    v(c.top_p, {.name = "top_p",
                .help = "keep the likeliest tokens of this total probability (1: all); for `vbon sample` only"});
    v(c.slots, {.name = "slots",
                .help = "sequences decoded together; a finished one makes room for the next",
                .unit = "sequences"});
  }
};

// Every objection to the values; empty: fine. Truncated distributions (top_k, top_p) are refused where
// log-probabilities are used, because those are of the whole softmax.
std::vector<std::string> problems(const SamplingConfig& config, bool allow_truncation);

// Sampling as a model's own generation_config.json says; defaults for what it does not name. UserError for a file that
// is none.
SamplingConfig read_generation_config(const std::filesystem::path& path);

}  // namespace vbon
