// Agreement between ranks on host values. All are collective.
#pragma once

#include <cstdint>
#include <exception>
#include <string_view>
#include <utility>

#include "vbon/comm/collectives.hpp"

namespace vbon::comm {

bool any_rank(Collectives& group, bool flag, std::string_view what);  // true where one rank says so
bool all_ranks(Collectives& group, bool flag, std::string_view what);
double sum_of(Collectives& group, double value, std::string_view what);
double max_of(Collectives& group, double value, std::string_view what);
std::int64_t sum_of(Collectives& group, std::int64_t value, std::string_view what);
std::int64_t max_of(Collectives& group, std::int64_t value, std::string_view what);

// The bytes are the same on every rank, or InternalError on all, naming two ranks that differ.
void check_same(Collectives& group, std::string_view value, std::string_view what);

// The root's text on every rank.
std::string from_root(Collectives& group, std::string_view text, int root, std::string_view what);

// Shares this rank's failure (or none). Where one failed, every rank throws: the failed ones their own error, the
// others one of the same kind that names the first failed rank. Rank 0 of the group tells it, the errors of the others
// are told elsewhere.
void agree_on_success(Collectives& group, std::exception_ptr failure, std::string_view what);

// Local work that may fail on some ranks only (files, models), ended by an agreement: either every rank goes on, or
// every rank throws. The work makes no collective calls.
template <class Work>
void together(Collectives& group, std::string_view what, Work&& work) {
  std::exception_ptr failure;
  try {
    std::forward<Work>(work)();
  } catch (...) {
    failure = std::current_exception();
  }
  agree_on_success(group, failure, what);
}

}  // namespace vbon::comm
