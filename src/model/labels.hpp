// What config.json says about a classification head, the same for encoders and causal language models.
#pragma once

#include <string>
#include <vector>

#include "model/json.hpp"

namespace vbon {

// Whether `architectures` names a …ForSequenceClassification.
bool names_classifier(const JsonObject& config);
// By id2label, which lists all labels; without one `num_labels` of them, or two as transformers takes it.
std::vector<std::string> label_names(const JsonObject& config);
// problem_type multi_label_classification: a sigmoid a label.
bool has_independent_labels(const JsonObject& config);
// id2label and label2id in place of num_labels.
void write_labels(Json& config, const std::vector<std::string>& names);
// LABEL_0 …, as transformers calls labels without names.
std::vector<std::string> default_labels(std::int64_t count);

}  // namespace vbon
