#include "model/labels.hpp"

#include <algorithm>

namespace vbon {
namespace {

constexpr std::int64_t kMaxLabels = 4096;

}  // namespace

bool names_classifier(const JsonObject& config) {
  if (!config.has("architectures")) return false;
  const Json& names = config.value()["architectures"];
  require(names.is_array(), "'{}': 'architectures' must be a list", config.where());
  return std::any_of(names.begin(), names.end(), [](const Json& name) {
    return name.is_string() && name.get<std::string>().ends_with("ForSequenceClassification");
  });
}

std::vector<std::string> label_names(const JsonObject& config) {
  if (!config.has("id2label")) {
    const std::int64_t count = config.size("num_labels", config.size("_num_labels", 2));
    require(count <= kMaxLabels, "'{}': {} labels; at most {} are supported", config.where(), count, kMaxLabels);
    return default_labels(count);
  }
  std::vector<std::string> names;
  const Json& list = config.value()["id2label"];
  require(list.is_object() && !list.empty() && list.size() <= static_cast<std::size_t>(kMaxLabels),
          "'{}': 'id2label' must be an object of 1 to {} labels", config.where(), kMaxLabels);
  for (std::size_t i = 0; i < list.size(); ++i) {
    const auto found = list.find(std::to_string(i));
    require(found != list.end() && found->is_string(), "'{}': 'id2label' has no name for label {}", config.where(), i);
    names.push_back(found->get<std::string>());
  }
  return names;
}

bool has_independent_labels(const JsonObject& config) {
  return config.text("problem_type", "") == "multi_label_classification";
}

void write_labels(Json& config, const std::vector<std::string>& names) {
  config.erase("num_labels");
  config.erase("_num_labels");
  config["id2label"] = Json::object();
  config["label2id"] = Json::object();
  for (std::size_t i = 0; i < names.size(); ++i) {
    config["id2label"][std::to_string(i)] = names[i];
    config["label2id"][names[i]] = i;
  }
}

std::vector<std::string> default_labels(std::int64_t count) {
  std::vector<std::string> names;
  for (std::int64_t i = 0; i < count; ++i) names.push_back(fmt::format("LABEL_{}", i));
  return names;
}

}  // namespace vbon
