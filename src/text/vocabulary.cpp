#include "text/vocabulary.hpp"

#include <fmt/format.h>

#include <algorithm>

namespace vbon::text {

Vocabulary::Vocabulary(const JsonView& json) {
  if (!json.value().is_object()) json.fail("an object of tokens and ids is needed here");
  ids_.reserve(json.value().size());
  by_id_.reserve(json.value().size());
  for (const auto& [token, value] : json.value().items()) {
    if (!value.is_number_unsigned() || value.get<std::uint64_t>() > std::uint64_t{kMaxTokenId})
      json.fail(fmt::format("the id {} of token '{}' is not a whole number between 0 and {}", value.dump(), token,
                            kMaxTokenId));
    const auto id = value.get<std::size_t>();
    if (id >= by_id_.size()) by_id_.resize(id + 1, nullptr);
    if (by_id_[id] != nullptr)
      json.fail(fmt::format("the tokens '{}' and '{}' have the same id {}", *by_id_[id], token, id));
    by_id_[id] = &tokens_.emplace_back(token);
    ids_.emplace(tokens_.back(), static_cast<std::int32_t>(id));
    longest_ = std::max(longest_, token.size());
  }
}

}  // namespace vbon::text
