// The JSON Lines inputs: prompts, texts, labels, pairs. A file is read whole and every bad line is collected: one
// UserError shows the first few as "file:line: what is wrong" and counts the rest. Keys that a record does not have are
// ignored; blank lines are skipped.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <variant>
#include <vector>

namespace vbon {

// Prompts in the file's order; never empty. Ids are distinct and >= 0, texts are not empty.
struct PromptSet {
  std::vector<std::int64_t> ids;  // "id", else the line number
  std::vector<std::string> texts;
  std::vector<std::string> text_sha256;  // of each text, hex: the key by which pools know a prompt
  std::string sha256;                    // of all ids and texts in order, hex

  std::size_t size() const { return ids.size(); }
  std::uint64_t key() const;  // the prompt-set part of a RandomStream's key
};

// {"prompt": text, "id"?: whole number} on each line, or plain text: one prompt a line. A file is plain text unless its
// name ends in .jsonl, .ndjson or .json or its first line starts with '{'.
PromptSet read_prompts(const std::filesystem::path& path);
// The set of given prompts, hashes included; UserError for what read_prompts would refuse.
PromptSet make_prompt_set(std::vector<std::int64_t> ids, std::vector<std::string> texts);

struct TextRecord {
  std::string prompt;  // empty for {"text"}
  std::string response;
};
// {"text": text} or {"prompt": text, "response": text}.
std::vector<TextRecord> read_texts(const std::filesystem::path& path);

struct LabelRecord {
  std::string text;
  double value = 0;  // label: the probability in [0, 1] of the positive class; score: any finite number
  double weight = 1;
};
struct LabelSet {
  bool scores = false;  // a file has labels or scores, not both
  std::vector<LabelRecord> records;
};
// {"text": text, "label" or "score": number, "weight"?: number >= 0}.
LabelSet read_labels(const std::filesystem::path& path);

struct PairRecord {
  std::string prompt, chosen, rejected;
  double weight = 1;
};
// {"prompt"?: text, "chosen": text, "rejected": text, "weight"?: number >= 0}; the prompt may be empty.
std::vector<PairRecord> read_pairs(const std::filesystem::path& path);

// What a reward model learns from: labelled texts, or pairs where the first record is one. A file has one kind.
using RewardTexts = std::variant<LabelSet, std::vector<PairRecord>>;
RewardTexts read_reward_texts(const std::filesystem::path& path);
bool begins_with_pair(const std::filesystem::path& path);

}  // namespace vbon
