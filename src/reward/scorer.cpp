#include "vbon/reward/scorer.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <nlohmann/json.hpp>

#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/objective/logistic.hpp"
#include "vbon/reward/classifier.hpp"
#include "vbon/reward/ngram.hpp"
#include "vbon/store/safetensors.hpp"
#include "vbon/text/tokenizer.hpp"

namespace vbon {
namespace {

constexpr std::size_t kMaxRemembered = 4'000'000;  // pairs; about 200 MB

std::string whole_text(const PromptResponse& pair) {
  std::string text(pair.prompt);
  text += pair.response;
  return text;
}

// For messages: quoted, short, valid UTF-8.
std::string shown(std::string_view text) {
  constexpr std::size_t kMost = 80;
  const nlohmann::json quoted = std::string(text.substr(0, kMost));
  return quoted.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + (text.size() > kMost ? "…" : "");
}

RawScorer classifier_scorer(const RewardConfig& config, at::Device device) {
  struct State {
    TextClassifier model;
    TextRows text;
    std::size_t label;
    bool independent;
  };
  TextClassifier model = load_text_classifier(config.path, device);
  const ClassifierFacts facts = facts_of(model);
  require(!facts.label_names.empty(),
          "'{}' is a {} without a classification head; train one with `vbon reward` (reward.train.base)", config.path,
          facts.causal ? "language model" : "encoder");
  TextRows text(Tokenizer::load(config.path), facts, config.max_length, config.append_eos);
  const std::size_t label = label_index(facts, config.label);
  auto state = std::make_shared<const State>(State{std::move(model), std::move(text), label, facts.independent_labels});
  return [state, batch = config.batch, output = config.output](std::span<const PromptResponse> pairs) {
    std::vector<TokenRow> rows;
    for (const PromptResponse& pair : pairs) rows.push_back(state->text.encode(whole_text(pair)));
    const at::Tensor logits = classifier_logits(state->model, rows, state->text, batch);
    const auto labels = static_cast<std::size_t>(logits.size(1));
    const std::span<const float> values(logits.const_data_ptr<float>(), rows.size() * labels);
    std::vector<double> rewards;
    for (std::size_t i = 0; i < rows.size(); ++i)
      rewards.push_back(reward_of_logits(values.subspan(i * labels, labels), state->label, state->independent, output));
    return rewards;
  };
}

// The two classes of an n-gram model are called 0 and 1.
RawScorer ngram_scorer(const RewardConfig& config) {
  require(config.label.empty() || config.label == "0" || config.label == "1",
          "an n-gram model has the labels 0 and 1, and no '{}'", config.label);
  auto model = std::make_shared<const NgramModel>(load_ngram(config.path));
  return [model, good = config.label != "0", output = config.output](std::span<const PromptResponse> pairs) {
    std::vector<double> rewards;
    for (const PromptResponse& pair : pairs) {
      const double odds = log_odds(*model, whole_text(pair));
      const double logit = good ? odds : -odds;
      rewards.push_back(output == RewardOutput::logit      ? logit
                        : output == RewardOutput::log_prob ? log_sigmoid(logit)
                                                           : std::exp(log_sigmoid(logit)));
    }
    return rewards;
  };
}

RawScorer exec_scorer(const RewardConfig& config, std::shared_ptr<ExecProgram> program) {
  if (!program) program = std::make_shared<ExecProgram>(exec_options(config));
  if (!program->probe())
    log::warn(
        "the reward program '{}' gives one text two different rewards: it draws at random, and scores will differ "
        "between ranks and restarts",
        config.command.front());
  return [program, batch = static_cast<std::size_t>(config.batch)](std::span<const PromptResponse> pairs) {
    std::vector<double> rewards;
    for (std::size_t begin = 0; begin < pairs.size(); begin += batch) {
      std::vector<ExecRequest> requests;
      for (const PromptResponse& pair : pairs.subspan(begin, std::min(batch, pairs.size() - begin)))
        requests.push_back({.prompt = pair.prompt, .response = pair.response});
      const std::vector<double> answers = program->score(requests);
      rewards.insert(rewards.end(), answers.begin(), answers.end());
    }
    return rewards;
  };
}

}  // namespace

double reward_of_logits(std::span<const float> logits, std::size_t label, bool independent, RewardOutput output) {
  check(label < logits.size(), "reward_of_logits: a label of the classifier");
  const double own = logits[label];
  if (logits.size() == 1 || independent) {
    if (output == RewardOutput::logit) return own;
    return output == RewardOutput::log_prob ? log_sigmoid(own) : std::exp(log_sigmoid(own));
  }
  if (output == RewardOutput::logit) return logits.size() == 2 ? own - static_cast<double>(logits[1 - label]) : own;
  const double highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float z : logits) sum += std::exp(z - highest);
  const double log_prob = own - highest - std::log(sum);
  return output == RewardOutput::log_prob ? log_prob : std::exp(log_prob);
}

RewardModel::RewardModel(std::string name, double round, RawScorer scorer)
    : name_(std::move(name)), round_(round), scorer_(std::move(scorer)) {}

RewardModel::Key RewardModel::key_of(const PromptResponse& pair) {
  const std::uint64_t size = pair.prompt.size();  // where the response begins is part of the pair
  Sha256 hash;
  hash.update(std::as_bytes(std::span(&size, 1))).update(pair.prompt).update(pair.response);
  const std::string hex = hash.hex();
  return {sha256_prefix64(hex), sha256_prefix64(std::string_view(hex).substr(16))};
}

std::vector<float> RewardModel::score(std::span<const PromptResponse> pairs) {
  if (known_.size() > kMaxRemembered) known_.clear();
  std::vector<Key> keys;
  std::vector<Key> new_keys;
  std::vector<PromptResponse> unknown;
  std::unordered_map<Key, float, KeyHash> asked;
  for (const PromptResponse& pair : pairs) {
    keys.push_back(key_of(pair));
    if (known_.contains(keys.back()) || !asked.emplace(keys.back(), 0.0f).second) continue;
    new_keys.push_back(keys.back());
    unknown.push_back(pair);
  }
  if (!unknown.empty()) {
    const std::vector<double> raw = scorer_(unknown);
    check(raw.size() == unknown.size(), "a reward for every pair");
    for (std::size_t i = 0; i < raw.size(); ++i) {
      const double rounded = round_ > 0 ? std::nearbyint(raw[i] / round_) * round_ : raw[i];
      require(std::abs(rounded) <= static_cast<double>(std::numeric_limits<float>::max()),
              "{} gives {} to the response {} of the prompt {}: rewards must be finite", name_, raw[i],
              shown(unknown[i].response), shown(unknown[i].prompt));
      known_.emplace(new_keys[i], static_cast<float>(rounded) + 0.0f);  // no negative zero
    }
  }
  std::vector<float> rewards;
  for (const Key& key : keys) rewards.push_back(known_.at(key));
  return rewards;
}

ExecOptions exec_options(const RewardConfig& config) {
  return {.command = config.command, .timeout_s = config.timeout_s, .startup_s = config.startup_s};
}

RewardModel make_reward(const RewardConfig& config, at::Device device, std::shared_ptr<ExecProgram> program) {
  switch (config.kind) {
    case RewardKind::classifier: return {"'" + config.path + "'", config.round, classifier_scorer(config, device)};
    case RewardKind::ngram: return {"'" + config.path + "'", config.round, ngram_scorer(config)};
    case RewardKind::exec: return {"'" + config.id + "'", config.round, exec_scorer(config, std::move(program))};
  }
  throw InternalError("unknown kind of reward");
}

std::string reward_sha256(const RewardConfig& config) {
  Sha256 hash;
  hash.update(enum_name(config.kind)).update("\n");
  if (config.kind == RewardKind::exec) {
    hash.update(config.id).update("\n");
    for (const std::string& word : config.command) hash.update(sha256_hex(word)).update("\n");
    return hash.hex();
  }
  const std::vector<std::string> also =
      config.kind == RewardKind::ngram ? std::vector<std::string>{"vocab.json"} : tokenizer_sources(config.path);
  hash.update(folder_sha256(config.path, also)).update("\nlabel ").update(config.label);
  if (config.kind == RewardKind::classifier) hash.update("\nmax_length ").update(std::to_string(config.max_length));
  if (config.append_eos) hash.update("\nappend_eos");
  return hash.hex();
}

}  // namespace vbon
