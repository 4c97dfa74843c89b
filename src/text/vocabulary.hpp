// Tokens and their ids, both ways.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "text/json_view.hpp"

namespace vbon::text {

// No model has an id near this; it bounds what a damaged file can make us allocate.
inline constexpr std::int64_t kMaxTokenId = (std::int64_t{1} << 22) - 1;

class Vocabulary {
 public:
  Vocabulary() = default;
  // {"token": id, …}; UserError for ids that repeat or are out of range.
  explicit Vocabulary(const JsonView& json);
  Vocabulary(const Vocabulary&) = delete;  // views into tokens_
  Vocabulary& operator=(const Vocabulary&) = delete;
  Vocabulary(Vocabulary&&) = default;
  Vocabulary& operator=(Vocabulary&&) = default;

  std::optional<std::int32_t> id(std::string_view token) const {
    const auto found = ids_.find(token);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  // Null if no token has this id.
  const std::string* token(std::int32_t id) const {
    if (id < 0 || static_cast<std::size_t>(id) >= by_id_.size()) return nullptr;
    return by_id_[static_cast<std::size_t>(id)];
  }
  std::int32_t size() const { return static_cast<std::int32_t>(ids_.size()); }      // tokens
  std::int32_t end_id() const { return static_cast<std::int32_t>(by_id_.size()); }  // largest id + 1
  std::size_t longest() const { return longest_; }                                  // bytes of the longest token

 private:
  std::deque<std::string> tokens_;
  std::unordered_map<std::string_view, std::int32_t> ids_;
  std::vector<const std::string*> by_id_;
  std::size_t longest_ = 0;
};

}  // namespace vbon::text
