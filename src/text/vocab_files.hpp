// Folders without tokenizer.json: vocab.json with merges.txt (GPT-2), or vocab.txt (BERT, DistilBERT). They become the
// description that tokenizer.json would hold, as GPT2TokenizerFast, BertTokenizerFast and DistilBertTokenizerFast of
// transformers 5 make it of the same folder, so that one path reads both.
//
// tokenizer_config.json, special_tokens_map.json and added_tokens.json count, too. A folder of another class (RoBERTa,
// Qwen …) has the same files and means other things by them: it is refused.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace vbon::text {

// The names of those files that `folder` has, in name order; empty without a whole vocabulary. UserError for a folder
// of another class.
std::vector<std::string> vocab_files(const std::filesystem::path& folder);

// UserError names the file, and its line where it has lines.
nlohmann::json describe_vocab_files(const std::filesystem::path& folder);

}  // namespace vbon::text
