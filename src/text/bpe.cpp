#include "text/bpe.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <queue>

#include "text/byte_level.hpp"
#include "text/unicode.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/words.hpp"

namespace vbon::text {
namespace {

constexpr std::size_t kFew = 40;  // symbols up to which scanning for the best pair beats a heap

void refuse_affix(const JsonView& json, const char* key) {
  const auto affix = json.find(key);
  if (affix && !affix->string().empty())
    affix->fail("is not supported; supported: byte-level BPE and BPE with byte fallback, which have none");
}

std::pair<std::string, std::string> read_pair(const JsonView& merges, std::size_t index) {
  const nlohmann::json& rule = merges.value()[index];
  const auto fail = [&]() { merges.element(index).fail("two tokens are needed here"); };
  if (rule.is_array()) {
    if (rule.size() != 2 || !rule[0].is_string() || !rule[1].is_string()) fail();
    return {rule[0].get<std::string>(), rule[1].get<std::string>()};
  }
  if (!rule.is_string()) fail();
  std::vector<std::string> parts = split(rule.get_ref<const std::string&>(), ' ');
  if (parts.size() != 2) fail();
  return {std::move(parts[0]), std::move(parts[1])};
}

}  // namespace

Bpe::Bpe(const JsonView& json, bool words_are_bytes)
    : vocabulary_(json.at("vocab")), words_are_bytes_(words_are_bytes),
      fuse_unknown_(json.boolean_or("fuse_unk", false)), byte_fallback_(json.boolean_or("byte_fallback", false)),
      ignore_merges_(json.boolean_or("ignore_merges", false)), unknown_name_(json.string_or("unk_token", "")) {
  refuse_affix(json, "continuing_subword_prefix");
  refuse_affix(json, "end_of_word_suffix");
  const auto dropout = json.find("dropout");
  if (dropout && dropout->value() != 0) dropout->fail("merges cannot be dropped at random here; set it to null");
  unknown_ = vocabulary_.id(unknown_name_).value_or(-1);
  for (std::size_t byte = 0; byte < 256; ++byte) {
    byte_ids_[byte] = vocabulary_.id(byte_characters()[byte]).value_or(-1);
    fallback_[byte] = vocabulary_.id(fmt::format("<0x{:02X}>", byte)).value_or(-1);
  }
  read_rules(json.at("merges"));
  find_whole_words();
}

void Bpe::read_rules(const JsonView& merges) {
  if (!merges.value().is_array()) merges.fail("an array is needed here");
  const std::size_t count = merges.value().size();
  rules_.resize(std::bit_ceil(count * 2 + 2));
  rule_shift_ = 64 - std::countr_zero(rules_.size());
  for (std::size_t rank = 0; rank < count; ++rank) {
    const auto [left, right] = read_pair(merges, rank);
    const auto need = [&](const std::string& token) {
      const auto id = vocabulary_.id(token);
      if (!id) merges.fail(fmt::format("rule {} needs the token '{}', which the vocabulary lacks", rank, token));
      return *id;
    };
    const std::int32_t left_id = need(left), right_id = need(right);
    insert_rule(left_id, right_id, static_cast<std::int32_t>(rank), need(left + right));
  }
}

void Bpe::insert_rule(std::int32_t left, std::int32_t right, std::int32_t rank, std::int32_t result) {
  const std::uint64_t pair = (static_cast<std::uint64_t>(left) << 32) | static_cast<std::uint32_t>(right);
  std::size_t slot = (pair * 0x9E3779B97F4A7C15ull) >> rule_shift_;
  while (rules_[slot].pair != kNoPair && rules_[slot].pair != pair) slot = (slot + 1) & (rules_.size() - 1);
  rules_[slot] = {pair, rank, result};  // a repeated rule counts where it stands last
}

const Bpe::Rule* Bpe::rule(std::int32_t left, std::int32_t right) const {
  const std::uint64_t pair = (static_cast<std::uint64_t>(left) << 32) | static_cast<std::uint32_t>(right);
  std::size_t slot = (pair * 0x9E3779B97F4A7C15ull) >> rule_shift_;
  while (rules_[slot].pair != pair) {
    if (rules_[slot].pair == kNoPair) return nullptr;
    slot = (slot + 1) & (rules_.size() - 1);
  }
  return &rules_[slot];
}

// Most words of ordinary text are one token: they are found here without merging.
void Bpe::find_whole_words() {
  std::vector<std::int32_t> ids;
  whole_words_.reserve(static_cast<std::size_t>(vocabulary_.size()));
  for (std::int32_t id = 0; id < vocabulary_.end_id(); ++id) {
    const std::string* const token = vocabulary_.token(id);
    if (token == nullptr || token->empty()) continue;
    std::string_view word = *token;
    if (words_are_bytes_) {
      std::optional<std::string> bytes = byte_level_inverse(*token);
      if (!bytes) continue;
      word = word_texts_.emplace_back(std::move(*bytes));
    }
    if (!ignore_merges_) {
      ids.clear();
      characters(word, ids);
      if (std::find(ids.begin(), ids.end(), -1) != ids.end()) continue;
      merge_from(0, ids);
      if (ids.size() != 1 || ids[0] != id) continue;
    }
    whole_words_.emplace(word, id);
  }
}

void Bpe::tokenize(std::string_view word, std::vector<std::int32_t>& ids) const {
  if (const auto whole = whole_words_.find(word); whole != whole_words_.end()) return ids.push_back(whole->second);
  const std::size_t begin = ids.size();
  characters(word, ids);
  if (unknown_ < 0 && std::find(ids.begin() + static_cast<std::ptrdiff_t>(begin), ids.end(), -1) != ids.end())
    throw UserError(
        "the word '{}' has a character without a token, and the tokenizer's vocabulary lacks its unk_token '{}'",
        word.substr(0, 100), unknown_name_);
  merge_from(begin, ids);
}

void Bpe::characters(std::string_view word, std::vector<std::int32_t>& ids) const {
  bool pending = false;  // an unknown token that is not yet written, since the next one may fuse with it
  const auto take = [&](std::int32_t id, std::string_view character) {
    if (id < 0) return unknown_character(character, pending, ids);
    if (pending) ids.push_back(unknown_);
    pending = false;
    ids.push_back(id);
  };
  if (words_are_bytes_) {
    for (const char c : word) {
      const auto byte = static_cast<unsigned char>(c);
      take(byte_ids_[byte], byte_characters()[byte]);
    }
  } else {
    for (std::size_t at = 0; at < word.size();) {
      const std::string_view character = word.substr(at, code_point_at(word, at).length);
      take(vocabulary_.id(character).value_or(-1), character);
      at += character.size();
    }
  }
  if (pending) ids.push_back(unknown_);
}

void Bpe::unknown_character(std::string_view character, bool& pending, std::vector<std::int32_t>& ids) const {
  const auto fallback = [&](char c) { return fallback_[static_cast<unsigned char>(c)]; };
  if (byte_fallback_ && std::all_of(character.begin(), character.end(), [&](char c) { return fallback(c) >= 0; })) {
    for (const char c : character) ids.push_back(fallback(c));  // before a pending unknown, as in the reference
    return;
  }
  if (unknown_name_.empty()) return;
  if (pending && !fuse_unknown_) ids.push_back(unknown_);
  pending = true;
}

void Bpe::merge_from(std::size_t begin, std::vector<std::int32_t>& ids) const {
  const std::size_t count = ids.size() - begin;
  if (count < 2) return;
  if (count <= kFew) merge_few(begin, ids);
  else merge_many(begin, ids);
}

void Bpe::merge_few(std::size_t begin, std::vector<std::int32_t>& ids) const {
  std::array<const Rule*, kFew> rules;
  std::int32_t* const symbols = ids.data() + begin;
  std::size_t count = ids.size() - begin;
  for (std::size_t k = 0; k + 1 < count; ++k) rules[k] = rule(symbols[k], symbols[k + 1]);
  for (;;) {
    std::size_t best = count;
    for (std::size_t k = 0; k + 1 < count; ++k)
      if (rules[k] != nullptr && (best == count || rules[k]->rank < rules[best]->rank)) best = k;
    if (best == count) break;
    symbols[best] = rules[best]->result;
    for (std::size_t k = best + 1; k + 1 < count; ++k) {
      symbols[k] = symbols[k + 1];
      rules[k] = k + 2 < count ? rules[k + 1] : nullptr;
    }
    --count;
    if (best > 0) rules[best - 1] = rule(symbols[best - 1], symbols[best]);
    if (best + 1 < count) rules[best] = rule(symbols[best], symbols[best + 1]);
  }
  ids.resize(begin + count);
}

// The same with a heap of candidate pairs over a linked list of symbols: n log n for words of any length.
void Bpe::merge_many(std::size_t begin, std::vector<std::int32_t>& ids) const {
  struct Symbol {
    std::int32_t id, previous, next;  // places, -1: none; id -1: joined into the one before
  };
  struct Candidate {
    std::int32_t rank, place, result;
    bool operator>(const Candidate& other) const {
      return rank != other.rank ? rank > other.rank : place > other.place;
    }
  };
  const auto count = static_cast<std::int32_t>(ids.size() - begin);
  std::vector<Symbol> symbols(static_cast<std::size_t>(count));
  for (std::int32_t k = 0; k < count; ++k)
    symbols[static_cast<std::size_t>(k)] = {ids[begin + static_cast<std::size_t>(k)], k - 1,
                                            k + 1 < count ? k + 1 : -1};
  const auto at = [&](std::int32_t place) -> Symbol& { return symbols[static_cast<std::size_t>(place)]; };
  std::vector<Candidate> initial;
  for (std::int32_t k = 0; k + 1 < count; ++k)
    if (const Rule* const found = rule(at(k).id, at(k + 1).id)) initial.push_back({found->rank, k, found->result});
  std::priority_queue<Candidate, std::vector<Candidate>, std::greater<>> queue(std::greater<>(), std::move(initial));
  const auto offer = [&](std::int32_t place) {
    if (place < 0 || at(place).next < 0) return;
    if (const Rule* const found = rule(at(place).id, at(at(place).next).id))
      queue.push({found->rank, place, found->result});
  };
  while (!queue.empty()) {
    const Candidate top = queue.top();
    queue.pop();
    Symbol& left = at(top.place);
    if (left.id < 0 || left.next < 0) continue;
    Symbol& right = at(left.next);
    const Rule* const found = rule(left.id, right.id);
    if (found == nullptr || found->rank != top.rank) continue;  // one of the two has changed since
    left.id = top.result;
    right.id = -1;
    left.next = right.next;
    if (right.next >= 0) at(right.next).previous = top.place;
    offer(left.previous);
    offer(top.place);
  }
  ids.resize(begin);
  for (std::int32_t k = 0; k >= 0; k = at(k).next) ids.push_back(at(k).id);
}

}  // namespace vbon::text
