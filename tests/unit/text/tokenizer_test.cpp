// What the goldens do not cover: refusals, lossy reading, long words, threads, damaged files.
#include "vbon/text/tokenizer.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <thread>

#include "text/pattern.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/sha256.hpp"

namespace vbon {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

const fs::path kGolden = fs::path(VBON_TEST_DATA) / "golden" / "text";

json family(const std::string& name) { return json::parse(read_file(kGolden / name / "tokenizer.json")); }

// A tokenizer of three tokens to which a test adds what it is about.
json tiny() {
  return json::parse(R"({"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
    "post_processor": null, "decoder": null,
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}})");
}

json added(int id, const std::string& content) {
  return {{"id", id},        {"content", content}, {"special", false},   {"single_word", false},
          {"lstrip", false}, {"rstrip", false},    {"normalized", false}};
}

std::string refusal(const json& file) {
  try {
    Tokenizer::parse(file.dump(), "X/tokenizer.json");
  } catch (const UserError& error) {
    return error.what();
  }
  ADD_FAILURE() << "accepted: " << file.dump().substr(0, 300);
  return {};
}

json changed(json file, const std::string& pointer, const json& value) {
  file[json::json_pointer(pointer)] = value;
  return file;
}

TEST(Tokenizer, replacements_that_explode_are_refused) {
  json tokenizer = tiny();
  const json step = {{"type", "Replace"}, {"pattern", {{"String", "a"}}}, {"content", std::string(1000, 'a')}};
  tokenizer["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array({step, step})}};
  EXPECT_EQ(Tokenizer::parse(tokenizer.dump(), "t").encode("a").size(), 1'000'000u);
  EXPECT_THROW(Tokenizer::parse(tokenizer.dump(), "t").encode(std::string(300, 'a')), UserError);
  tokenizer["normalizer"]["normalizers"] = json(std::vector<json>(65, step));
  EXPECT_THROW(Tokenizer::parse(tokenizer.dump(), "t"), UserError);
}

TEST(Tokenizer, tells_its_tokens) {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "bert_uncased");
  EXPECT_EQ(tokenizer.id("[CLS]"), 2);
  EXPECT_EQ(tokenizer.token(3), "[SEP]");
  EXPECT_TRUE(tokenizer.is_special(3));
  EXPECT_FALSE(tokenizer.is_special(50));
  EXPECT_EQ(tokenizer.id("no such token"), std::nullopt);
  EXPECT_EQ(tokenizer.token(-1), std::nullopt);
  EXPECT_EQ(tokenizer.token(tokenizer.vocab_size()), std::nullopt);
  EXPECT_EQ(tokenizer.vocab_size(), static_cast<std::int32_t>(family("bert_uncased")["model"]["vocab"].size()));
  EXPECT_EQ(tokenizer.added_tokens().size(), 5u);
  EXPECT_EQ(tokenizer.sha256(), sha256_file(kGolden / "bert_uncased" / "tokenizer.json"));
}

TEST(Tokenizer, decodes_ids_without_a_token_to_nothing) {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "gpt2");
  auto ids = tokenizer.encode("a movie");
  ids.insert(ids.begin() + 1, {1 << 30, -5, tokenizer.vocab_size()});
  EXPECT_EQ(tokenizer.decode(ids), "a movie");
  EXPECT_EQ(tokenizer.decode({}), "");
}

TEST(Tokenizer, reads_invalid_utf8_as_replacement_characters) {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "gpt2");
  EXPECT_EQ(tokenizer.encode("a\xFF\xE4\xB8 b"), tokenizer.encode("a\xEF\xBF\xBD\xEF\xBF\xBD b"));
}

TEST(Tokenizer, takes_words_of_a_megabyte_in_time) {
  const auto seconds = [](const Tokenizer& tokenizer, const std::string& text) {
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  };
  for (const char* name : {"gpt2", "llama3", "smollm2"}) {
    const Tokenizer tokenizer = Tokenizer::load(kGolden / name);
    for (const std::string unit : {"a", " ", "ther", "\n", "1", "\xC3\xA9"}) {
      std::string text;
      while (text.size() < 150000) text += unit;
      EXPECT_LT(seconds(tokenizer, text), 3.0) << name << " '" << unit << "'";  // a quadratic search needs minutes
    }
  }
}

TEST(Tokenizer, is_the_same_from_many_threads) {
  const Tokenizer tokenizer = Tokenizer::load(kGolden / "smollm2");
  const std::string text = "The acting was wonderful, but I don't remember 12 scenes. Привет, как дела?";
  const auto expected = tokenizer.encode(text);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t)
    threads.emplace_back([&, t] {
      for (int k = 0; k < 300; ++k)
        if (tokenizer.encode(text) != expected || tokenizer.decode(expected) != text) ++wrong[t];
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(std::accumulate(wrong.begin(), wrong.end(), 0), 0);
}

TEST(Tokenizer, names_what_is_not_supported) {
  const json base = tiny();
  EXPECT_THAT(refusal(changed(base, "/pre_tokenizer", {{"type", "Metaspace"}})),
              AllOf(HasSubstr("X/tokenizer.json"), HasSubstr("pre_tokenizer 'Metaspace' is not supported"),
                    HasSubstr("ByteLevel")));
  EXPECT_THAT(refusal(changed(base, "/normalizer", {{"type", "Nmt"}})), HasSubstr("normalizer 'Nmt'"));
  EXPECT_THAT(refusal(changed(base, "/decoder", {{"type", "CTC"}})), HasSubstr("decoder 'CTC'"));
  EXPECT_THAT(refusal(changed(base, "/post_processor", {{"type", "Odd"}})), HasSubstr("post_processor 'Odd'"));
  EXPECT_THAT(refusal(changed(base, "/model/type", "Unigram")), HasSubstr("model 'Unigram'"));
  EXPECT_THAT(refusal(changed(base, "/model/end_of_word_suffix", "</w>")), HasSubstr("end_of_word_suffix"));
  EXPECT_THAT(refusal(changed(base, "/model/dropout", 0.1)), HasSubstr("dropout"));
  EXPECT_THAT(refusal(changed(base, "/version", "2.0")), HasSubstr("version"));
  json split = {{"type", "Split"}, {"pattern", {{"Regex", "[a&&b]"}}}, {"behavior", "Isolated"}, {"invert", false}};
  EXPECT_THAT(refusal(changed(base, "/pre_tokenizer", split)), HasSubstr("'&&'"));
  split["behavior"] = "Sideways";
  EXPECT_THAT(refusal(changed(base, "/pre_tokenizer", changed(split, "/pattern/Regex", "a"))),
              HasSubstr("behavior 'Sideways'"));
  json nested = {{"type", "NFC"}};
  for (int k = 0; k < 20; ++k) nested = {{"type", "Sequence"}, {"normalizers", json::array({nested})}};
  EXPECT_THAT(refusal(changed(base, "/normalizer", nested)), HasSubstr("nested too deeply"));
}

TEST(Tokenizer, refuses_vocabularies_that_contradict_themselves) {
  const json base = tiny();
  EXPECT_THAT(refusal(changed(base, "/model/vocab/b", 0)), HasSubstr("have the same id 0"));
  for (const json& id : {json(-1), json(1.5), json("1"), json(std::uint64_t{1} << 40), json(nullptr)})
    EXPECT_THAT(refusal(changed(base, "/model/vocab/b", id)), HasSubstr("of token 'b' is not a whole number"));
  EXPECT_THAT(refusal(changed(base, "/model/merges", json::array({json::array({"a", "c"})}))),
              HasSubstr("the token 'c', which the vocabulary lacks"));
  EXPECT_THAT(refusal(changed(base, "/model/merges", json::array({json::array({"b", "a"})}))),
              HasSubstr("the token 'ba'"));
  for (const json& rule : {json("a b c"), json("ab"), json(7), json({"a"}), json({"a", 1})})
    EXPECT_THAT(refusal(changed(base, "/model/merges", json::array({rule}))), HasSubstr("two tokens are needed"));
  EXPECT_THAT(refusal(changed(base, "/model/merges", "x")), HasSubstr("X/tokenizer.json: model.merges: an array"));
  EXPECT_THAT(refusal(changed(base, "/model/vocab", json::array())), HasSubstr("model.vocab"));
  EXPECT_THAT(refusal(changed(base, "/added_tokens", json::array({added(7, "<x>")}))),
              HasSubstr("'<x>' has id 7, but 3"));
  EXPECT_THAT(refusal(changed(base, "/added_tokens", json::array({added(1, "a")}))), HasSubstr("'a' has id 1, but 0"));
  EXPECT_THAT(refusal(changed(base, "/added_tokens", json::array({added(3, "<x>"), added(4, "<x>")}))),
              HasSubstr("added twice"));
  EXPECT_THAT(refusal(changed(base, "/added_tokens", json::array({added(3, "")}))), HasSubstr("no content"));
  EXPECT_THAT(refusal(changed(base, "/added_tokens", json::array({added(3, std::string(5000, 'x'))}))),
              HasSubstr("5000 bytes"));
  EXPECT_THAT(refusal(changed(base, "/added_tokens", json::array({{{"id", 3}, {"content", "x"}}}))),
              HasSubstr("'special' is missing"));
  json empty = changed(base, "/model/vocab", json::object());
  empty["model"]["merges"] = json::array();
  EXPECT_THAT(refusal(empty), HasSubstr("the vocabulary is empty"));
  json file = tiny();
  file.erase("model");
  EXPECT_THAT(refusal(file), HasSubstr("the key 'model' is missing"));
  EXPECT_THAT(refusal(changed(base, "/model", {{"type", "WordPiece"}, {"vocab", {{"a", 0}}}})),
              HasSubstr("lacks the unk_token '[UNK]'"));
  EXPECT_THAT(
      refusal(changed(base, "/post_processor", {{"type", "BertProcessing"}, {"sep", {"x", 99}}, {"cls", {"x", 0}}})),
      HasSubstr("99 is not between 0 and 2"));
  EXPECT_THAT(refusal(changed(base, "/post_processor", {{"type", "TemplateProcessing"}, {"single", json::array()}})),
              HasSubstr("does not hold the text"));
}

TEST(Tokenizer, needs_a_folder_with_a_valid_file) {
  const fs::path folder = fs::path(testing::TempDir()) / ("tokenizer_test." + std::to_string(::getpid()));
  make_folders(folder);
  EXPECT_THROW(Tokenizer::load(folder), UserError);
  EXPECT_THROW(Tokenizer::load(folder / "missing"), UserError);
  for (const char* content : {"", "null", "[]", "7", "{", "{\"model\": 3}", "\xFF\xFE"}) {
    write_file_atomically(folder / "tokenizer.json", content);
    EXPECT_THROW(Tokenizer::load(folder), UserError) << content;
  }
  fs::remove_all(folder);
}

TEST(Tokenizer, a_character_without_token_needs_the_unknown_token) {
  EXPECT_THAT(Tokenizer::parse(tiny().dump(), "t").encode("aXb"), ElementsAre(2));  // vanishes, as in the reference
  const Tokenizer lacking = Tokenizer::parse(changed(tiny(), "/model/unk_token", "<unk>").dump(), "t");
  EXPECT_THAT(lacking.encode("abba"), ElementsAre(2, 1, 0));
  EXPECT_THROW(lacking.encode("aXb"), UserError);
}

TEST(Pattern, means_what_it_means_in_the_reference_or_is_refused) {
  const auto replaced = [](const char* expression, std::string_view text) {
    return text::Pattern(expression, "p").replace_all(text, "_");
  };
  EXPECT_EQ(replaced("\\s",
                     "a\xE1\xA0\x8E"
                     "b c"),
            "a\xE1\xA0\x8E"
            "b_c");  // U+180E is no white space
  EXPECT_EQ(replaced("[^\\S\\n]", "a b\nc\t"), "a_b\nc_");
  // Marks are word characters; of superscripts those of Latin-1.
  EXPECT_EQ(replaced("\\w+", "e\xCC\x81 \xC2\xB2 \xE2\x81\xB4"), "_ _ \xE2\x81\xB4");
  EXPECT_EQ(replaced("^a$", "a\nb\na"), "_\nb\n_");        // at every line
  EXPECT_EQ(replaced("(?i:K)", "kK\xE2\x84\xAA"), "___");  // the Kelvin sign
  EXPECT_EQ(replaced("x*", "axb"), "_a_b_");
  EXPECT_EQ(replaced("b*", "axb"), "_a_x_");
  EXPECT_EQ(replaced("x*", ""), "");
  EXPECT_EQ(text::Pattern::literal("a.b\\E+", "p").replace_all("a.b\\E+ axb", "_"), "_ axb");
  for (const char* expression : {"\\h", "[[a]b]", "[a&&b]", "[\\W]", "(?m:a)", "(?x) a", "(*UCP)a", "(", "a\\", "[a",
                                 "\\p{Nope}", "\\k<a>", "\\Q.\\E", "\\C", "a{99999}"})
    EXPECT_THROW(text::Pattern(expression, "p"), UserError) << expression;
  EXPECT_THROW(text::Pattern(std::string(100000, 'a'), "p"), UserError);
  EXPECT_THROW(text::Pattern(std::string(5000, '('), "p"), UserError);
}

TEST(Pattern, runaway_expressions_end_in_an_error) {
  const text::Pattern pattern("^(a|aa)+$", "p");
  text::MatchScratch scratch;
  std::vector<text::Match> matches;
  EXPECT_THROW(pattern.find_all(std::string(3000, 'a') + "b", scratch, matches), UserError);
}

// Some hundred damaged files of each family: each loads and works, or is the user's error; nothing else may happen.
class Damage : public testing::TestWithParam<const char*> {};

void try_damaged(const std::string& bytes, int& loaded, int& refused) {
  try {
    const Tokenizer tokenizer = Tokenizer::parse(bytes, "damaged");
    const auto ids = tokenizer.encode("The movie's 12 scenes, Приве́т 你好 <|endoftext|>[MASK] \n\n");
    tokenizer.decode(ids, {.skip_special_tokens = false});
    ++loaded;
  } catch (const UserError&) {
    ++refused;
  }
}

TEST_P(Damage, ends_in_a_tokenizer_or_a_user_error) {
  const std::string whole = read_file(kGolden / GetParam() / "tokenizer.json");
  std::mt19937 random(11);
  int loaded = 0, refused = 0;
  for (int k = 0; k < 300; ++k) {
    std::string bytes = whole;
    const std::size_t edits = 1 + random() % 3;
    // Half of the edits fall on the settings, which are a small part of the file.
    const std::size_t settings = std::min(bytes.find("\"vocab\""), bytes.size());
    for (std::size_t e = 0; e < edits; ++e) {
      const std::size_t at = random() % (random() % 2 == 0 ? settings : bytes.size());
      switch (random() % 4) {
        case 0: bytes[at] = static_cast<char>(random() % 256); break;
        case 1: bytes.erase(at, 1 + random() % 20); break;
        case 2: bytes.insert(at, bytes.substr(random() % bytes.size(), 1 + random() % 30)); break;
        default: bytes[at] = "0123456789\"[]{},:tfn"[random() % 20]; break;
      }
      if (bytes.empty()) bytes = "x";
    }
    try_damaged(bytes, loaded, refused);
  }
  for (int k = 0; k < 50; ++k) try_damaged(whole.substr(0, random() % whole.size()), loaded, refused);
  EXPECT_EQ(loaded + refused, 350);
  EXPECT_GT(refused, 100);
  EXPECT_GT(loaded, 0);
}

INSTANTIATE_TEST_SUITE_P(Files, Damage,
                         testing::Values("gpt2", "neox", "llama3", "smollm2", "byte_fallback", "bert_uncased"),
                         [](const auto& file) { return std::string(file.param); });

// Damage to the structure: any value in the settings replaced by a value of another kind.
TEST(Damaged, settings_of_another_kind) {
  const std::vector<json> values = {nullptr,
                                    true,
                                    -1,
                                    1e300,
                                    std::uint64_t{1} << 63,
                                    "",
                                    "x",
                                    json::array(),
                                    json::object(),
                                    json::array({1, "a"}),
                                    {{"type", "Sequence"}},
                                    {{"Regex", "("}},
                                    {{"String", ""}}};
  for (const char* name : {"llama3", "bert_cased"}) {
    json file = family(name);
    const json whole = file;
    file["model"]["vocab"] = json::object();
    file["model"].erase("merges");
    int loaded = 0, refused = 0;
    const json settings = file.flatten();
    for (const auto& [pointer, old] : settings.items()) {
      if (pointer.starts_with("/added_tokens/") && !pointer.starts_with("/added_tokens/0")) continue;  // all alike
      for (const json& value : values) {
        json damaged = whole;
        damaged[json::json_pointer(pointer)] = value;
        try_damaged(damaged.dump(), loaded, refused);
      }
    }
    EXPECT_GT(refused, 50) << name;
  }
}

}  // namespace
}  // namespace vbon
