#include "vbon/text/records.hpp"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/json.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/words.hpp"

namespace vbon {
namespace {

using nlohmann::json;

constexpr std::int64_t kShownProblems = 5;

// What is wrong with one line; the reader adds file and line.
class BadLine : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class Problems {
 public:
  explicit Problems(const fs::path& path) : path_(path.string()) {}
  void add(std::int64_t line, std::string_view what) {
    if (++count_ <= kShownProblems) shown_ += fmt::format("\n  {}:{}: {}", path_, line, what);
  }
  void throw_if_any() const {
    if (count_ == 0) return;
    const std::string more = count_ > kShownProblems ? fmt::format("\n  and {} more", count_ - kShownProblems) : "";
    throw UserError("'{}' has {}:{}{}", path_, counted(count_, "bad line"), shown_, more);
  }

 private:
  std::string path_, shown_;
  std::int64_t count_ = 0;
};

// Calls `use(number, text)` for every line that is not blank; a BadLine that it throws is collected.
void for_each_good_line(const fs::path& path, const std::function<void(std::int64_t, std::string_view)>& use) {
  Problems problems(path);
  for_each_line(path, [&](std::int64_t number, std::string_view line) {
    if (trimmed(line).empty()) return;
    try {
      if (!is_valid_utf8(line)) throw BadLine("not valid UTF-8");
      use(number, line);
    } catch (const BadLine& bad) {
      problems.add(number, bad.what());
    }
  });
  problems.throw_if_any();
}

json parse_object(std::string_view line) {
  if (nests_deeper(line, kMaxJsonDepth))
    throw BadLine(fmt::format("not valid JSON: nested deeper than {} levels", kMaxJsonDepth));
  json value;
  try {
    value = json::parse(line.begin(), line.end());
  } catch (const json::exception& error) {
    std::string_view what = error.what();
    if (const std::size_t end = what.find("] "); end != std::string_view::npos) what.remove_prefix(end + 2);
    throw BadLine(fmt::format("not valid JSON: {}", what));
  }
  if (!value.is_object()) throw BadLine("a JSON object is needed on each line");
  return value;
}

std::string text_of(const json& object, const char* key, bool may_be_empty = false) {
  const auto found = object.find(key);
  if (found == object.end()) throw BadLine(fmt::format("the key '{}' is missing", key));
  if (!found->is_string()) throw BadLine(fmt::format("'{}' is {}, not a string", key, found->type_name()));
  std::string text = found->get<std::string>();
  if (text.empty() && !may_be_empty) throw BadLine(fmt::format("'{}' is empty", key));
  return text;
}

double number_of(const json& object, const char* key) {
  const json& value = object.at(key);
  if (!value.is_number()) throw BadLine(fmt::format("'{}' is {}, not a number", key, value.type_name()));
  const double number = value.get<double>();
  if (!std::isfinite(number)) throw BadLine(fmt::format("'{}' is not finite", key));
  return number;
}

bool is_pair(const json& object) { return object.contains("chosen") || object.contains("rejected"); }

double weight_of(const json& object) {
  if (!object.contains("weight")) return 1;
  const double weight = number_of(object, "weight");
  if (weight < 0) throw BadLine(fmt::format("'weight' is {}; a number >= 0 is needed", weight));
  return weight;
}

std::optional<std::int64_t> id_of(const json& object) {
  const auto found = object.find("id");
  if (found == object.end() || found->is_null()) return std::nullopt;
  const bool whole = found->is_number_unsigned() && found->get<std::uint64_t>() <= std::uint64_t{INT64_MAX};
  if (!whole) throw BadLine(fmt::format("'id' is {}; a whole number >= 0 is needed", found->dump()));
  return found->get<std::int64_t>();
}

bool has_json_lines(const fs::path& path) {
  const std::string ending = path.extension().string();
  if (ending == ".jsonl" || ending == ".ndjson" || ending == ".json") return true;
  bool first = true, object = false;
  for_each_line(path, [&](std::int64_t, std::string_view line) {
    if (!first || trimmed(line).empty()) return;
    first = false;
    object = trimmed(line).front() == '{';
  });
  return object;
}

template <class Record>
std::vector<Record> read_records(const fs::path& path, const char* kind, Record (*read)(const json&)) {
  std::vector<Record> records;
  for_each_good_line(path, [&](std::int64_t, std::string_view line) { records.push_back(read(parse_object(line))); });
  require(!records.empty(), "'{}' holds no {}", path.string(), kind);
  return records;
}

void add_hashes(PromptSet& set) {
  Sha256 all;
  for (std::size_t k = 0; k < set.size(); ++k) {
    set.text_sha256.push_back(sha256_hex(set.texts[k]));
    // "id length text" of each: no two sets write the same bytes.
    all.update(fmt::format("{} {} ", set.ids[k], set.texts[k].size())).update(std::string_view(set.texts[k]));
  }
  set.sha256 = all.hex();
}

}  // namespace

std::uint64_t PromptSet::key() const { return sha256_prefix64(sha256); }

PromptSet read_prompts(const fs::path& path) {
  const bool objects = has_json_lines(path);
  PromptSet set;
  std::unordered_map<std::int64_t, std::int64_t> line_of_id;
  for_each_good_line(path, [&](std::int64_t number, std::string_view line) {
    std::int64_t id = number;
    std::string text(line);
    if (objects) {
      const json object = parse_object(line);
      text = text_of(object, "prompt");
      id = id_of(object).value_or(number);
    }
    const auto [first, fresh] = line_of_id.emplace(id, number);
    if (!fresh) throw BadLine(fmt::format("the id {} is already that of line {}", id, first->second));
    set.ids.push_back(id);
    set.texts.push_back(std::move(text));
  });
  require(set.size() > 0, "'{}' holds no prompts", path.string());
  add_hashes(set);
  return set;
}

PromptSet make_prompt_set(std::vector<std::int64_t> ids, std::vector<std::string> texts) {
  require(ids.size() == texts.size() && !ids.empty(),
          "a prompt set needs as many ids ({}) as texts ({}), and one at least", ids.size(), texts.size());
  std::unordered_map<std::int64_t, std::size_t> seen;
  for (std::size_t k = 0; k < ids.size(); ++k) {
    require(ids[k] >= 0, "the prompt id {} is negative", ids[k]);
    require(seen.emplace(ids[k], k).second, "two prompts have the id {}", ids[k]);
    require(!texts[k].empty() && is_valid_utf8(texts[k]), "the prompt with id {} is {}", ids[k],
            texts[k].empty() ? "empty" : "not valid UTF-8");
  }
  PromptSet set;
  set.ids = std::move(ids);
  set.texts = std::move(texts);
  add_hashes(set);
  return set;
}

std::vector<TextRecord> read_texts(const fs::path& path) {
  return read_records<TextRecord>(path, "texts", [](const json& object) -> TextRecord {
    const bool parts = object.contains("response");
    if (parts == object.contains("text")) throw BadLine("either 'text' or 'prompt' and 'response' is needed");
    if (!parts) return {"", text_of(object, "text")};
    return {text_of(object, "prompt", true), text_of(object, "response")};
  });
}

LabelSet read_labels(const fs::path& path) {
  LabelSet set;
  std::optional<bool> scores;
  for_each_good_line(path, [&](std::int64_t, std::string_view line) {
    const json object = parse_object(line);
    if (is_pair(object)) throw BadLine("a pair among labelled texts; a file has one kind");
    LabelRecord record{text_of(object, "text"), 0, weight_of(object)};
    const bool score = object.contains("score");
    if (score == object.contains("label"))
      throw BadLine("one of 'label' (in [0, 1]) and 'score' (any number) is needed");
    record.value = number_of(object, score ? "score" : "label");
    if (!score && (record.value < 0 || record.value > 1))
      throw BadLine(fmt::format("'label' is {}; it lies in [0, 1] (use 'score' for other numbers)", record.value));
    if (scores.value_or(score) != score)
      throw BadLine("a file has either labels or scores; earlier lines have the other");
    scores = score;
    set.records.push_back(std::move(record));
  });
  require(!set.records.empty(), "'{}' holds no labels", path.string());
  set.scores = scores.value_or(false);
  return set;
}

std::vector<PairRecord> read_pairs(const fs::path& path) {
  return read_records<PairRecord>(path, "pairs", [](const json& object) -> PairRecord {
    if (!is_pair(object) && object.contains("text")) throw BadLine("a labelled text among pairs; a file has one kind");
    return {object.contains("prompt") ? text_of(object, "prompt", true) : "", text_of(object, "chosen", true),
            text_of(object, "rejected", true), weight_of(object)};
  });
}

bool begins_with_pair(const fs::path& path) {
  std::optional<bool> pair;
  for_each_line(path, [&](std::int64_t, std::string_view line) {
    if (pair || trimmed(line).empty()) return;
    if (nests_deeper(line, kMaxJsonDepth)) pair = false;  // which the reader of labels will say
    else pair = is_pair(json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false));
  });
  return pair.value_or(false);
}

RewardTexts read_reward_texts(const fs::path& path) {
  if (begins_with_pair(path)) return read_pairs(path);
  return read_labels(path);
}

}  // namespace vbon
