#include "vbon/comm/agree.hpp"

#include <array>
#include <string>

#include "vbon/base/error.hpp"

namespace vbon::comm {
namespace {

enum class Failure : std::uint8_t { none, user, environment, internal };

template <Element T>
T reduced(Collectives& group, T value, Reduction op, std::string_view what) {
  std::array<T, 1> values = {value};
  group.host().all_reduce(std::span<T>(values), op, what);
  return values[0];
}

std::span<const std::byte> bytes_of(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

std::string text_of(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// The kind in the first byte, then the message; empty: no failure.
std::string encode(const std::exception_ptr& failure) {
  if (!failure) return {};
  const auto record = [](Failure kind, const char* text) { return std::string(1, static_cast<char>(kind)) + text; };
  try {
    std::rethrow_exception(failure);
  } catch (const UserError& error) {
    return record(Failure::user, error.what());
  } catch (const EnvironmentError& error) {
    return record(Failure::environment, error.what());
  } catch (const std::exception& error) {
    return record(Failure::internal, error.what());
  } catch (...) {
    return record(Failure::internal, "unknown exception");
  }
}

template <class Error>
[[noreturn]] void fail(const std::string& text, bool tells) {
  if (tells) throw Error(text);
  throw Elsewhere<Error>(text);
}

}  // namespace

bool any_rank(Collectives& group, bool flag, std::string_view what) {
  return reduced<std::uint8_t>(group, flag ? 1 : 0, Reduction::max, what) != 0;
}
bool all_ranks(Collectives& group, bool flag, std::string_view what) {
  return reduced<std::uint8_t>(group, flag ? 1 : 0, Reduction::min, what) != 0;
}
double sum_of(Collectives& group, double value, std::string_view what) {
  return reduced(group, value, Reduction::sum, what);
}
double max_of(Collectives& group, double value, std::string_view what) {
  return reduced(group, value, Reduction::max, what);
}
std::int64_t sum_of(Collectives& group, std::int64_t value, std::string_view what) {
  return reduced(group, value, Reduction::sum, what);
}
std::int64_t max_of(Collectives& group, std::int64_t value, std::string_view what) {
  return reduced(group, value, Reduction::max, what);
}

void check_same(Collectives& group, std::string_view value, std::string_view what) {
  const Gathered<std::byte> all = group.all_gather_v(bytes_of(value), what);
  const std::string first = text_of(all.of(0));
  for (int r = 1; r < group.size(); ++r)
    if (const std::string other = text_of(all.of(r)); other != first)
      throw InternalError(fmt::format("ranks disagree about {}: {} has '{}', {} has '{}'", what,
                                      group.group().place_of(0), first.substr(0, 200), group.group().place_of(r),
                                      other.substr(0, 200)));
}

std::string from_root(Collectives& group, std::string_view text, int root, std::string_view what) {
  const bool mine = group.rank() == root;
  return text_of(group.all_gather_v(mine ? bytes_of(text) : std::span<const std::byte>{}, what).of(root));
}

void agree_on_success(Collectives& group, std::exception_ptr failure, std::string_view what) {
  const std::string mine = encode(failure);
  const Gathered<std::byte> all = group.all_gather_v(bytes_of(mine), what);
  if (all.values.empty()) return;
  const bool tells = group.rank() == 0;
  if (failure && tells) std::rethrow_exception(failure);
  int first = 0;
  while (all.of(first).empty()) ++first;
  const std::string record = failure ? mine : text_of(all.of(first));
  const std::string text =
      failure ? mine.substr(1)
              : fmt::format("{} failed on {}: {}", what, group.group().place_of(first), record.substr(1));
  switch (static_cast<Failure>(record[0])) {
    case Failure::user: fail<UserError>(text, tells);
    case Failure::environment: fail<EnvironmentError>(text, tells);
    default: fail<InternalError>(text, tells);
  }
}

}  // namespace vbon::comm
