#include "text/json_view.hpp"

#include <fmt/format.h>

#include "vbon/base/error.hpp"

namespace vbon::text {

std::string JsonView::place() const { return path_.empty() ? file_ : file_ + ": " + path_; }

JsonView JsonView::at(std::string_view key) const {
  if (!value_->is_object()) fail("an object is needed here");
  const auto found = value_->find(key);
  if (found == value_->end()) fail(fmt::format("the key '{}' is missing", key));
  return {*found, file_, path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key)};
}

std::optional<JsonView> JsonView::find(std::string_view key) const {
  if (!value_->is_object()) fail("an object is needed here");
  const auto found = value_->find(key);
  return found == value_->end() || found->is_null() ? std::nullopt : std::optional(at(key));
}

JsonView JsonView::element(std::size_t index) const {
  return {(*value_)[index], file_, fmt::format("{}[{}]", path_, index)};
}

std::vector<JsonView> JsonView::elements() const {
  if (!value_->is_array()) fail("an array is needed here");
  std::vector<JsonView> views;
  views.reserve(value_->size());
  for (std::size_t i = 0; i < value_->size(); ++i) views.push_back(element(i));
  return views;
}

std::string JsonView::string() const {
  if (!value_->is_string()) fail("a string is needed here");
  return value_->get<std::string>();
}

bool JsonView::boolean() const {
  if (!value_->is_boolean()) fail("true or false is needed here");
  return value_->get<bool>();
}

std::int64_t JsonView::integer(std::int64_t low, std::int64_t high) const {
  if (!value_->is_number_integer()) fail("a whole number is needed here");
  const bool too_large = value_->is_number_unsigned() && value_->get<std::uint64_t>() > std::uint64_t{INT64_MAX};
  const std::int64_t number = too_large ? INT64_MAX : value_->get<std::int64_t>();
  if (number < low || number > high) fail(fmt::format("{} is not between {} and {}", value_->dump(), low, high));
  return number;
}

bool JsonView::boolean_or(std::string_view key, bool fallback) const {
  const auto found = find(key);
  return found ? found->boolean() : fallback;
}

std::string JsonView::string_or(std::string_view key, const std::string& fallback) const {
  const auto found = find(key);
  return found ? found->string() : fallback;
}

void JsonView::fail(const std::string& what) const { throw UserError("{}: {}", place(), what); }

void JsonView::unsupported(std::string_view kind, std::string_view name, std::string_view supported) const {
  fail(fmt::format("{} '{}' is not supported; supported: {}", kind, name, supported));
}

}  // namespace vbon::text
