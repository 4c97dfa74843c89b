#include "vbon/generate/sampling.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/json.hpp"

namespace vbon {

std::vector<std::string> problems(const SamplingConfig& c, bool allow_truncation) {
  std::vector<std::string> found;
  if (!(c.temperature > 0 && c.temperature <= 100))
    found.push_back(fmt::format("sampling.temperature is {}; it must be in (0, 100]", c.temperature));
  if (c.max_new_tokens < 1)
    found.push_back(fmt::format("sampling.max_new_tokens is {}; at least 1 is needed", c.max_new_tokens));
  if (c.slots < 1) found.push_back(fmt::format("sampling.slots is {}; at least 1 is needed", c.slots));
  if (c.top_k < 0) found.push_back(fmt::format("sampling.top_k is {}; 0 (all) or more is needed", c.top_k));
  if (!(c.top_p > 0 && c.top_p <= 1))
    found.push_back(fmt::format("sampling.top_p is {}; it must be in (0, 1]", c.top_p));
  if (!allow_truncation && (c.top_k != 0 || c.top_p != 1.0))
    found.push_back(
        "sampling.top_k and sampling.top_p are for `vbon sample` only: pools and training use the log-probabilities "
        "of the whole softmax, and a truncated one would make them wrong; set top_k: 0 and top_p: 1");
  return found;
}

SamplingConfig read_generation_config(const fs::path& path) {
  const nlohmann::json file = parse_json(read_file(path, 1 << 20), "'" + path.string() + "'");
  require(file.is_object(), "'{}' holds no JSON object", path.string());
  SamplingConfig sampling;
  const auto read = [&](const char* name, auto& value) {
    const auto found = file.find(name);
    if (found == file.end() || found->is_null()) return;
    constexpr bool kWhole = std::is_integral_v<std::remove_reference_t<decltype(value)>>;
    require(kWhole ? found->is_number_integer() : found->is_number(), "'{}': '{}' must be a {}", path.string(), name,
            kWhole ? "whole number" : "number");
    found->get_to(value);
  };
  read("temperature", sampling.temperature);
  read("max_new_tokens", sampling.max_new_tokens);
  read("top_k", sampling.top_k);
  read("top_p", sampling.top_p);
  return sampling;
}

}  // namespace vbon
