// The added tokens of a folder without tokenizer.json: the special ones that its settings name, and those of
// added_tokens.json or `added_tokens_decoder`; with the ids that transformers 5 gives them.
#pragma once

#include <array>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

namespace vbon::text {

// In the order in which new ones get their ids.
enum class Role { bos, eos, unk, sep, pad, cls, mask };
inline constexpr std::array kRoleKeys = {"bos_token", "eos_token", "unk_token", "sep_token",
                                         "pad_token", "cls_token", "mask_token"};
template <class T>
using ByRole = std::array<std::optional<T>, kRoleKeys.size()>;

struct SpecialTokens {
  ByRole<std::string> named;
  nlohmann::json added;  // [{"id", "content", "special", …}], as `added_tokens` of tokenizer.json

  const std::optional<std::string>& operator[](Role role) const { return named[static_cast<std::size_t>(role)]; }
  std::int32_t id(const std::string& content) const;  // of an added token
};

// `config` is the folder's tokenizer_config.json, `defaults` are the tokens that the class has unless the folder says
// otherwise, `vocab` is {"token": id} with ids from 0 without gaps.
SpecialTokens read_special_tokens(const std::filesystem::path& folder, const nlohmann::json& config,
                                  const ByRole<std::string>& defaults, const nlohmann::json& vocab);

// A JSON object in a file of `folder`; {} where the file is missing.
nlohmann::json read_object(const std::filesystem::path& folder, const std::string& name);

}  // namespace vbon::text
