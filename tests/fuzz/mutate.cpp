#include "fuzz/mutate.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <nlohmann/json.hpp>
#include <vector>

namespace vbon::fuzz {
namespace {

using nlohmann::json;
using namespace std::string_literals;
using namespace std::string_view_literals;

constexpr std::size_t kLargest = std::size_t{8} << 20;  // bytes; copies of copies stop here

// Numbers at which sizes, offsets and counts go wrong.
constexpr std::array<std::uint64_t, 16> kNumbers = {
    0,          1,          2,          7,          8,          127,        255,
    65535,      0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1ull << 40, 1ull << 62, (1ull << 63) - 1,
    1ull << 63, ~0ull};
constexpr std::array kWords = {"-1"sv,
                               "0"sv,
                               "18446744073709551615"sv,
                               "9223372036854775808"sv,
                               "-9223372036854775809"sv,
                               "1e999"sv,
                               "-0.0"sv,
                               "1e-400"sv,
                               "null"sv,
                               "true"sv,
                               "NaN"sv,
                               "Infinity"sv,
                               "[]"sv,
                               "{}"sv,
                               "\"\""sv,
                               "\"\\ud800\""sv,
                               "\"\\u0000\""sv,
                               "4294967296"sv,
                               "0.5"sv,
                               "1e18"sv,
                               "99999999999999999999999999"sv};
constexpr std::array kYaml = {"&a "sv,
                              "*a"sv,
                              "<<: *a"sv,
                              "!!binary "sv,
                              "!!int "sv,
                              "? "sv,
                              "- "sv,
                              "{"sv,
                              "}"sv,
                              "["sv,
                              "]"sv,
                              "| "sv,
                              ">-\n"sv,
                              "%YAML 9.9\n"sv,
                              "---\n"sv,
                              "...\n"sv,
                              "${X}"sv,
                              "${"sv,
                              "$${a}"sv,
                              "\t"sv,
                              ": "sv,
                              " #"sv,
                              "'"sv,
                              "\""sv,
                              "\"\\N\""sv,
                              "\"\\x00\""sv,
                              "include: c.yaml\n"sv,
                              "include: [c.yaml, c.yaml]\n"sv,
                              "\xEF\xBB\xBF"sv,
                              "\xC2\x85"sv,
                              ", "sv,
                              "~"sv,
                              "0x1F"sv,
                              "1_000"sv,
                              ".inf"sv,
                              ".nan"sv,
                              "yes"sv,
                              "@"sv,
                              "`"sv};

std::size_t place(const std::string& text, Random& random) { return text.empty() ? 0 : random.below(text.size() + 1); }

struct Span {
  std::size_t begin, length;
};
Span span_in(const std::string& text, Random& random) {
  const std::size_t begin = place(text, random);
  return {begin, random.size(text.size() - begin)};
}

void overwrite_number(std::string& bytes, Random& random) {
  const std::size_t width = std::size_t{1} << random.below(4);
  if (bytes.size() < width) return;
  const std::size_t at = random.below(bytes.size() - width + 1);
  std::uint64_t value = 0;
  std::memcpy(&value, bytes.data() + at, width);
  if (random.one_in(2)) value += random.one_in(2) ? 1 : ~std::uint64_t{0};
  else value = random.any_of(kNumbers);
  std::memcpy(bytes.data() + at, &value, width);
}

// Another word in place of a number that is written out.
void replace_decimal(std::string& text, Random& random) {
  const std::size_t begin = text.find_first_of("0123456789", place(text, random));
  if (begin == std::string::npos) return;
  const std::size_t end = std::min(text.find_first_not_of("0123456789.eE+-", begin), text.size());
  text.replace(begin, end - begin, random.any_of(kWords));
}

json odd_value(Random& random, const json& document, int depth = 0) {
  switch (random.below(12)) {
    case 0: return nullptr;
    case 1: return random.one_in(2);
    case 2: return random.any_of(kNumbers);
    case 3: return static_cast<std::int64_t>(random.any_of(kNumbers));
    case 4: return std::array{-0.5, 1e308, 5e-324, 0.1, -1e19, 3.0}[random.below(6)];
    case 5: return std::string(random.size(100000), 'a');
    case 6:
      return random.any_of(
          std::array{""s, "x"s, "\0"s, "../../x"s, "\xEF\xBF\xBD"s, "\xF0\x9F\x98\x80"s, "F32"s, " "s, "\n"s});
    case 7: return json::array();
    case 8: return json::object();
    case 9: {
      json deep = 1;
      for (std::size_t k = random.size(1000); k > 0; --k)
        deep = random.one_in(2) ? json::array({std::move(deep)}) : json{{"a", std::move(deep)}};
      return deep;
    }
    case 10: {
      json list = json::array();
      for (std::size_t k = random.size(20); k > 0 && depth < 3; --k)
        list.push_back(odd_value(random, document, depth + 1));
      return list;
    }
    default: return depth == 0 ? document : json();
  }
}

void collect(json& value, std::vector<json*>& all) {
  all.push_back(&value);
  if (value.is_structured())
    for (json& child : value) collect(child, all);
}

void change_string(std::string& text, Random& random) {
  switch (random.below(4)) {
    case 0: text.clear(); break;
    case 1: text += text; break;
    case 2: text.insert(place(text, random), "\xC3\xA9"); break;
    default:
      if (!text.empty()) text.resize(random.below(text.size()));
  }
}

void change_node(json& value, Random& random, const json& document) {
  if (value.is_object() && !value.empty() && !random.one_in(3)) {
    auto at = value.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(random.below(value.size())));
    const std::string key = at.key();
    const json old = *at;
    if (!random.one_in(3)) value.erase(at);
    if (!random.one_in(3)) value[random.one_in(2) ? key + "x" : key.substr(0, key.size() / 2)] = old;
  } else if (value.is_array() && !value.empty() && !random.one_in(3)) {
    const std::size_t i = random.below(value.size());
    const json old = value[i];
    if (random.one_in(2)) value.erase(i);
    else
      for (std::size_t k = random.size(500); k > 0; --k) value.push_back(old);
  } else if (value.is_number_integer() && random.one_in(2)) {
    value = static_cast<std::int64_t>(value.get<std::uint64_t>() + random.below(3) - 1);
  } else if (value.is_string() && random.one_in(2)) {
    std::string text = value.get<std::string>();
    change_string(text, random);
    value = text;
  } else {
    value = odd_value(random, document);
  }
}

std::string dumped(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size() - 1) + 1;
    lines.push_back(text.substr(at, end - at));
    at = end;
  }
  return lines;
}

std::string text_of(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line;
  return text;
}

// Lines lost, doubled, swapped, or changed by `inside`.
void change_lines(std::string& text, Random& random, void (*inside)(std::string&, Random&)) {
  std::vector<std::string> lines = lines_of(text);
  if (lines.empty()) return;
  std::string& line = lines[random.below(lines.size())];
  switch (random.below(6)) {
    case 0: line.clear(); break;
    case 1: line += line; break;
    case 2: std::swap(line, lines[random.below(lines.size())]); break;
    case 3:
      if (line.ends_with('\n')) line.pop_back();
      break;
    default: {
      const bool ended = line.ends_with('\n');
      if (ended) line.pop_back();
      inside(line, random);
      if (ended) line += '\n';
    }
  }
  text = text_of(lines);
}

void mutate_one(const std::string& name, std::string& content, Random& random) {
  if (random.one_in(4)) return mutate_bytes(content, random);
  if (name.ends_with(".json")) return mutate_json(content, random);
  if (name.ends_with(".jsonl") || name.ends_with(".txt") || name == "lock") return mutate_lines(content, random);
  if (name.ends_with(".yaml")) return mutate_yaml(content, random);
  if (name.ends_with(".safetensors")) return mutate_safetensors(content, random);
  mutate_bytes(content, random);
}

}  // namespace

Random::Random(std::string_view stream, std::uint64_t number) {
  std::uint64_t hash = 14695981039346656037ull;  // FNV-1a
  for (const char c : stream) hash = (hash ^ static_cast<unsigned char>(c)) * 1099511628211ull;
  engine_.seed(hash ^ (number * 0x9E3779B97F4A7C15ull));
}

std::size_t Random::size(std::size_t most) {
  const std::size_t magnitude = std::size_t{1} << below(22);
  return most == 0 ? 0 : below(std::min(most, magnitude) + 1);
}

void mutate_bytes(std::string& bytes, Random& random) {
  const Span span = span_in(bytes, random);
  const std::string part = bytes.substr(span.begin, span.length);
  switch (random.below(14)) {
    case 0:
    case 1:
    case 2:
      if (!bytes.empty()) {
        char& byte = bytes[random.below(bytes.size())];
        byte = static_cast<char>(byte ^ (1 << random.below(8)));
      }
      break;
    case 3:
    case 4:
    case 5: overwrite_number(bytes, random); break;
    case 6: bytes.resize(span.begin); break;
    case 7: bytes.erase(span.begin, span.length); break;
    case 8: bytes.insert(place(bytes, random), part); break;
    case 9: bytes.replace(std::min(place(bytes, random), bytes.size()), part.size(), part); break;
    case 10: {
      std::string noise(random.size(64), '\0');
      for (char& c : noise) c = static_cast<char>(random.bits());
      bytes.insert(span.begin, noise);
      break;
    }
    case 11: bytes.insert(span.begin, random.any_of(kWords)); break;
    case 12: replace_decimal(bytes, random); break;
    default: bytes.insert(span.begin, std::string(random.size(200000), "[{(\"-\0"[random.below(6)]));
  }
  if (bytes.size() > kLargest) bytes.resize(kLargest);
}

void mutate_json(std::string& text, Random& random) {
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (document.is_discarded()) return mutate_bytes(text, random);
  const json before = document;
  std::vector<json*> all;
  collect(document, all);
  change_node(*random.any_of(all), random, before);
  text = dumped(document);
  if (text.size() > kLargest) text.resize(kLargest);
}

void mutate_lines(std::string& text, Random& random) {
  const bool objects = text.find('{') < 3;
  change_lines(text, random, objects ? mutate_json : mutate_bytes);
}

void mutate_yaml(std::string& text, Random& random) {
  switch (random.below(4)) {
    case 0: text.insert(place(text, random), random.any_of(kYaml)); break;
    case 1: {
      const std::string_view word = random.any_of(kYaml);
      std::string many;
      for (std::size_t k = random.size(20000); k > 0; --k) many += word;
      text.insert(place(text, random), many);
      break;
    }
    case 2: replace_decimal(text, random); break;
    default:
      change_lines(text, random, [](std::string& line, Random& r) {
        if (r.one_in(2)) line.insert(0, r.below(9), ' ');
        else line.insert(place(line, r), r.any_of(kYaml));
      });
  }
}

void mutate_safetensors(std::string& bytes, Random& random) {
  std::uint64_t length = 0;
  if (bytes.size() >= 8) std::memcpy(&length, bytes.data(), 8);
  if (length == 0 || length > bytes.size() - 8) return mutate_bytes(bytes, random);
  std::string header = bytes.substr(8, length);
  mutate_json(header, random);
  const std::uint64_t fresh = header.size();
  std::string all(8, '\0');
  std::memcpy(all.data(), &fresh, 8);
  bytes = all + header + bytes.substr(8 + length);
}

void mutate(Files& files, Random& random) {
  auto at = files.begin();
  std::advance(at, static_cast<std::ptrdiff_t>(random.below(files.size())));
  do mutate_one(at->first, at->second, random);
  while (random.one_in(3));
  if (random.one_in(8)) {
    at = files.begin();
    std::advance(at, static_cast<std::ptrdiff_t>(random.below(files.size())));
    if (random.one_in(3) && files.size() > 1) files.erase(at);
    else mutate_one(at->first, at->second, random);
  }
}

}  // namespace vbon::fuzz
