#include "vbon/train/step_model.hpp"

#include <algorithm>
#include <cmath>

#include "store/strict_json.hpp"
#include "vbon/base/error.hpp"

namespace vbon {

StepTerms step_times(const StepModel& model, int ranks, double sequences, double updates, double sent_bytes) {
  check(ranks >= 1, "step_times: ranks");
  const StepTerms& t = model.terms;
  return {.fixed = t.fixed,
          .compute = t.compute * sequences / ranks,
          .update = t.update * updates,
          .latency = t.latency * std::log2(ranks),
          .bytes = t.bytes * sent_bytes};
}

StepModel parse_step_model(std::string_view text, const std::string& name) {
  const nlohmann::json says = parse_strict_json(text, 4, "'" + name + "'");
  require(says.is_object() && says.value("format", nlohmann::json()) == "vbon.scaling",
          "'{}' is no model of a step's time; `python -m analysis scaling RUN... -o DIR` writes DIR/scaling.json",
          name);
  require(says.value("schema_version", nlohmann::json()) == 1, "'{}' is newer than this program: fit it again", name);
  const auto number = [&name](const nlohmann::json& from, const char* key) {
    const auto found = from.is_object() ? from.find(key) : from.end();
    require(from.is_object() && found != from.end() && found->is_number(), "'{}': '{}' is missing or no number", name,
            key);
    const double value = found->get<double>();
    require(std::isfinite(value) && value >= 0, "'{}': '{}' is {}, and has to be finite and not below 0", name, key,
            value);
    return value;
  };
  StepModel model;
  const nlohmann::json terms = says.value("terms", nlohmann::json());
  StepTerms::visit([&](const char* key, double& value) { value = number(terms, key); }, model.terms);
  model.gradient_bytes = number(says, "gradient_bytes");
  model.relative_error = number(says, "relative_error");
  for (const nlohmann::json& ranks : says.value("ranks", nlohmann::json::array())) {
    require(ranks.is_number_integer() && ranks >= 1 && ranks <= 1'000'000, "'{}': 'ranks' holds what is none", name);
    model.most_ranks = std::max(model.most_ranks, ranks.get<int>());
  }
  require(model.most_ranks > 0, "'{}': 'ranks' is missing", name);
  const nlohmann::json with = says.value("measured_with", nlohmann::json::object());
  require(with.is_object(), "'{}': 'measured_with' is no map", name);
  for (const auto& [key, value] : with.items())
    if (!value.is_null())
      model.measured_with.emplace_back(key, value.is_string() ? value.get<std::string>() : value.dump());
  return model;
}

}  // namespace vbon
