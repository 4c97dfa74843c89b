// Collects what is wrong with a configuration, so that all of it can be said at once.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

namespace vbon {

class Problems {
 public:
  template <class... Args>
  void unless(bool good, fmt::format_string<Args...> text, Args&&... args) {
    if (!good) found_.push_back(fmt::format(text, std::forward<Args>(args)...));
  }
  void add(std::vector<std::string> more) { std::move(more.begin(), more.end(), std::back_inserter(found_)); }
  std::vector<std::string> take() { return std::move(found_); }

 private:
  std::vector<std::string> found_;
};

}  // namespace vbon
