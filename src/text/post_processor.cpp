#include "text/post_processor.hpp"

#include <fmt/format.h>

namespace vbon::text {
namespace {

// ["[CLS]", 101]
std::int32_t named_id(const JsonView& json, std::int32_t end_id) {
  const std::vector<JsonView> parts = json.elements();
  if (parts.size() != 2) json.fail("a token and its id are needed here");
  return static_cast<std::int32_t>(parts[1].integer(0, end_id - 1));
}

}  // namespace

void PostProcessor::add(const JsonView& json, std::int32_t end_id, int depth) {
  const std::string type = json.type();
  if (type == "Sequence") {
    if (depth >= kMaxNesting) json.fail("Sequences are nested too deeply");
    for (const JsonView& part : json.at("processors").elements()) add(part, end_id, depth + 1);
  } else if (type == "TemplateProcessing") {
    add_template(json, end_id);
  } else if (type == "BertProcessing" || type == "RobertaProcessing") {
    before_.insert(before_.begin(), named_id(json.at("cls"), end_id));
    after_.push_back(named_id(json.at("sep"), end_id));
  } else if (type != "ByteLevel") {
    json.unsupported("post_processor", type,
                     "ByteLevel, TemplateProcessing, BertProcessing, RobertaProcessing, Sequence");
  }
}

void PostProcessor::add_template(const JsonView& json, std::int32_t end_id) {
  std::vector<std::int32_t> before;
  bool seen = false;
  for (const JsonView& piece : json.at("single").elements()) {
    if (const auto sequence = piece.find("Sequence")) {
      if (seen || sequence->at("id").string() != "A") sequence->fail("the template of one text holds 'A' once");
      seen = true;
      continue;
    }
    const std::string name = piece.at("SpecialToken").at("id").string();
    const JsonView special = json.at("special_tokens").at(name);
    for (const JsonView& id : special.at("ids").elements())
      (seen ? after_ : before).push_back(static_cast<std::int32_t>(id.integer(0, end_id - 1)));
  }
  if (!seen) json.fail("the template of one text does not hold the text");
  before_.insert(before_.begin(), before.begin(), before.end());
}

}  // namespace vbon::text
