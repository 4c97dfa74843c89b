#include "text/normalizer.hpp"

#include "text/bert_characters.hpp"

namespace vbon::text {
namespace {

// Calls `use(code point)` for each of a valid text.
template <class Use>
void for_each_code_point(std::string_view text, Use&& use) {
  for (std::size_t at = 0; at < text.size();) {
    const CodePoint point = code_point_at(text, at);
    use(point.value);
    at += point.length;
  }
}

template <class Keep>
std::string filtered(std::string_view text, Keep&& keep) {
  std::string out;
  out.reserve(text.size());
  for_each_code_point(text, [&](char32_t code) {
    if (keep(code)) append_code_point(out, code);
  });
  return out;
}

std::string apply_step(Form form, std::string_view text) { return normal_form(text, form); }

std::string apply_step(Lowercase, std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for_each_code_point(text, [&](char32_t code) { append_lower(out, code); });
  return out;
}

std::string apply_step(StripAccents, std::string_view text) {
  return filtered(text, [](char32_t code) { return !is_mark(code); });
}

std::string apply_step(StripBlanks sides, std::string_view text) {
  while (sides.left && !text.empty()) {
    const CodePoint point = code_point_at(text, 0);
    if (!is_white_space(point.value)) break;
    text.remove_prefix(point.length);
  }
  while (sides.right && !text.empty()) {
    const CodePoint point = code_point_before(text, text.size());
    if (!is_white_space(point.value)) break;
    text.remove_suffix(point.length);
  }
  return std::string(text);
}

std::string apply_step(const Prepend& step, std::string_view text) {
  return text.empty() ? std::string() : step.text + std::string(text);
}

std::string apply_step(const Replace& step, std::string_view text) {
  return step.pattern.replace_all(text, step.content);
}

std::string bert_cleaned(std::string_view text, bool clean, bool set_ideographs_apart) {
  std::string out;
  out.reserve(text.size() + 16);
  for_each_code_point(text, [&](char32_t code) {
    if (clean) {
      if (code == 0 || code == 0xFFFD || is_bert_control(code)) return;
      if (is_white_space(code)) code = ' ';
    }
    const bool apart = set_ideographs_apart && is_bert_ideograph(code);
    if (apart) out += ' ';
    append_code_point(out, code);
    if (apart) out += ' ';
  });
  return out;
}

std::string apply_step(const BertNormalizer& step, std::string_view text) {
  std::string out = bert_cleaned(text, step.clean_text, step.handle_chinese_chars);
  if (step.strip_accents && !is_ascii(out))
    out = filtered(normal_form(out, Form::nfd), [](char32_t code) { return !is_bert_accent(code); });
  if (step.lowercase) out = apply_step(Lowercase{}, out);
  return out;
}

}  // namespace

Pattern read_pattern(const JsonView& json) {
  if (const auto literal = json.find("String")) return Pattern::literal(literal->string(), literal->place());
  if (const auto regex = json.find("Regex")) return Pattern(regex->string(), regex->place());
  json.fail("a pattern is {\"String\": …} or {\"Regex\": …}");
}

void Normalizer::add(const JsonView& json, int depth) {
  const std::string type = json.type();
  if (steps_.size() >= kMaxSteps) json.fail("too many steps");
  if (type == "Sequence") {
    if (depth >= kMaxNesting) json.fail("Sequences are nested too deeply");
    for (const JsonView& part : json.at("normalizers").elements()) add(part, depth + 1);
  } else if (type == "NFC") {
    steps_.emplace_back(Form::nfc);
  } else if (type == "NFD") {
    steps_.emplace_back(Form::nfd);
  } else if (type == "NFKC") {
    steps_.emplace_back(Form::nfkc);
  } else if (type == "NFKD") {
    steps_.emplace_back(Form::nfkd);
  } else if (type == "Lowercase") {
    steps_.emplace_back(Lowercase{});
  } else if (type == "StripAccents") {
    steps_.emplace_back(StripAccents{});
  } else if (type == "Strip") {
    steps_.emplace_back(StripBlanks{json.at("strip_left").boolean(), json.at("strip_right").boolean()});
  } else if (type == "Prepend") {
    steps_.emplace_back(Prepend{json.at("prepend").string()});
  } else if (type == "Replace") {
    steps_.emplace_back(Replace{read_pattern(json.at("pattern")), json.at("content").string()});
  } else if (type == "BertNormalizer") {
    const bool lowercase = json.boolean_or("lowercase", true);
    steps_.emplace_back(BertNormalizer{json.boolean_or("clean_text", true),
                                       json.boolean_or("handle_chinese_chars", true),
                                       json.boolean_or("strip_accents", lowercase), lowercase});
  } else {
    json.unsupported(
        "normalizer", type,
        "NFC, NFD, NFKC, NFKD, Lowercase, StripAccents, Strip, Prepend, Replace, BertNormalizer, Sequence");
  }
}

std::string Normalizer::apply(std::string_view text) const {
  std::string current(text);
  for (const Step& step : steps_) current = std::visit([&](const auto& one) { return apply_step(one, current); }, step);
  return current;
}

}  // namespace vbon::text
