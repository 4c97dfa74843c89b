#include "text/decoder.hpp"

#include <array>
#include <charconv>
#include <utility>

#include "text/byte_level.hpp"
#include "text/unicode.hpp"
#include "vbon/base/words.hpp"

namespace vbon::text {
namespace {

using Tokens = std::vector<std::string>;

void replace_text(std::string& text, std::string_view from, std::string_view to) {
  if (text.find(from) == std::string::npos) return;
  std::string out;
  std::size_t at = 0;
  for (std::size_t found = text.find(from); found != std::string::npos; found = text.find(from, at)) {
    out.append(text, at, found - at).append(to);
    at = found + from.size();
  }
  text = std::move(out.append(text, at));
}

// English spacing, one rule after the other; "do not" to "don't" is the reference's.
void clean_up(std::string& text) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 11> kRules = {{{" .", "."},
                                                                                     {" ?", "?"},
                                                                                     {" !", "!"},
                                                                                     {" ,", ","},
                                                                                     {" ' ", "'"},
                                                                                     {" n't", "n't"},
                                                                                     {" 'm", "'m"},
                                                                                     {" do not", " don't"},
                                                                                     {" 's", "'s"},
                                                                                     {" 've", "'ve"},
                                                                                     {" 're", "'re"}}};
  for (const auto& [from, to] : kRules) replace_text(text, from, to);
}

Tokens apply_step(ByteLevelDecoder, Tokens tokens) {
  std::string bytes;
  for (const std::string& token : tokens) {
    if (const auto inverse = byte_level_inverse(token)) bytes += *inverse;
    else bytes += token;
  }
  return {is_valid_utf8(bytes) ? bytes : lossy_utf8(bytes)};
}

// The byte of a token "<0xE2>"; -1 for others.
int fallback_byte(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token.back() != '>') return -1;
  const char* const digits = token.data() + 3;
  const bool plus = digits[0] == '+';  // the reference's number reader takes a sign
  unsigned value = 0;
  const auto [end, error] = std::from_chars(digits + (plus ? 1 : 0), digits + 2, value, 16);
  return error == std::errc() && end == digits + 2 ? static_cast<int>(value) : -1;
}

Tokens apply_step(ByteFallbackDecoder, Tokens tokens) {
  Tokens out;
  std::string bytes;
  const auto flush = [&]() {
    if (bytes.empty()) return;
    if (is_valid_utf8(bytes)) out.push_back(bytes);
    else out.insert(out.end(), bytes.size(), "\xEF\xBF\xBD");
    bytes.clear();
  };
  for (std::string& token : tokens) {
    if (const int byte = fallback_byte(token); byte >= 0) {
      bytes += static_cast<char>(static_cast<unsigned char>(byte));
    } else {
      flush();
      out.push_back(std::move(token));
    }
  }
  flush();
  return out;
}

Tokens apply_step(FuseDecoder, Tokens tokens) {
  std::string all;
  for (const std::string& token : tokens) all += token;
  return {std::move(all)};
}

Tokens apply_step(const BpeDecoder& step, Tokens tokens) {
  for (std::size_t k = 0; k < tokens.size(); ++k)
    if (!step.suffix.empty()) replace_text(tokens[k], step.suffix, k + 1 == tokens.size() ? "" : " ");
  return tokens;
}

Tokens apply_step(const WordPieceDecoder& step, Tokens tokens) {
  for (std::size_t k = 0; k < tokens.size(); ++k) {
    if (k > 0) {
      if (tokens[k].starts_with(step.prefix)) tokens[k].erase(0, step.prefix.size());
      else tokens[k].insert(0, " ");
    }
    if (step.cleanup) clean_up(tokens[k]);
  }
  return tokens;
}

Tokens apply_step(const StripDecoder& step, Tokens tokens) {
  for (std::string& token : tokens) {
    std::string_view text = token;
    for (std::size_t k = 0; k < step.start && !text.empty(); ++k) {
      const CodePoint point = code_point_at(text, 0);
      if (point.value != step.content) break;
      text.remove_prefix(point.length);
    }
    for (std::size_t k = 0; k < step.stop && !text.empty(); ++k) {
      const CodePoint point = code_point_before(text, text.size());
      if (point.value != step.content) break;
      text.remove_suffix(point.length);
    }
    token = std::string(text);
  }
  return tokens;
}

Tokens apply_step(const Replace& step, Tokens tokens) {
  for (std::string& token : tokens) token = step.pattern.replace_all(token, step.content);
  return tokens;
}

char32_t read_character(const JsonView& json) {
  const std::string text = json.string();
  if (count_code_points(text) != 1) json.fail("one character is needed here");
  return code_point_at(text, 0).value;
}

}  // namespace

void Decoder::add(const JsonView& json, int depth) {
  present_ = true;
  const std::string type = json.type();
  if (steps_.size() >= kMaxSteps) json.fail("too many steps");
  if (type == "Sequence") {
    if (depth >= kMaxNesting) json.fail("Sequences are nested too deeply");
    for (const JsonView& part : json.at("decoders").elements()) add(part, depth + 1);
  } else if (type == "ByteLevel") {
    steps_.emplace_back(ByteLevelDecoder{});
  } else if (type == "ByteFallback") {
    steps_.emplace_back(ByteFallbackDecoder{});
  } else if (type == "Fuse") {
    steps_.emplace_back(FuseDecoder{});
  } else if (type == "BPEDecoder") {
    steps_.emplace_back(BpeDecoder{json.string_or("suffix", "</w>")});
  } else if (type == "WordPiece") {
    steps_.emplace_back(WordPieceDecoder{json.string_or("prefix", "##"), json.boolean_or("cleanup", true)});
  } else if (type == "Strip") {
    steps_.emplace_back(StripDecoder{read_character(json.at("content")),
                                     static_cast<std::size_t>(json.at("start").integer(0, INT32_MAX)),
                                     static_cast<std::size_t>(json.at("stop").integer(0, INT32_MAX))});
  } else if (type == "Replace") {
    steps_.emplace_back(Replace{read_pattern(json.at("pattern")), json.at("content").string()});
  } else {
    json.unsupported("decoder", type, "ByteLevel, ByteFallback, Fuse, BPEDecoder, WordPiece, Strip, Replace, Sequence");
  }
}

std::string Decoder::decode(std::vector<std::string> tokens) const {
  for (const Step& step : steps_)
    tokens = std::visit([&](const auto& one) { return apply_step(one, std::move(tokens)); }, step);
  return joined(tokens, present_ ? "" : " ");
}

}  // namespace vbon::text
