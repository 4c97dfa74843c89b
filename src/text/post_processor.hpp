// `post_processor` of tokenizer.json: the special tokens around one text. What it does to offsets does not concern ids.
#pragma once

#include <cstdint>
#include <vector>

#include "text/json_view.hpp"

namespace vbon::text {

class PostProcessor {
 public:
  PostProcessor() = default;
  // `end_id`: ids at or above it are refused.
  PostProcessor(const JsonView& json, std::int32_t end_id) { add(json, end_id, 0); }
  const std::vector<std::int32_t>& before() const { return before_; }
  const std::vector<std::int32_t>& after() const { return after_; }

 private:
  void add(const JsonView& json, std::int32_t end_id, int depth);
  void add_template(const JsonView& json, std::int32_t end_id);
  std::vector<std::int32_t> before_, after_;
};

}  // namespace vbon::text
