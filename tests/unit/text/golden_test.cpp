// Ids and decoded texts equal those of the reference library: tests/golden/text, made by make_tokenizers.py and
// make_vocab_files.py there.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "vbon/base/files.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/words.hpp"
#include "vbon/text/tokenizer.hpp"

namespace vbon {
namespace {

const fs::path kGolden = fs::path(VBON_TEST_DATA) / "golden" / "text";

std::vector<std::string> read_strings() {
  std::vector<std::string> strings;
  for (const auto& item : nlohmann::json::parse(read_file(kGolden / "corpus.json"))) {
    std::string text;
    for (int k = 0; k < item[1].get<int>(); ++k) text += item[0].get<std::string>();
    strings.push_back(text + item[2].get<std::string>());
  }
  return strings;
}

const std::vector<std::string>& strings() {
  static const std::vector<std::string> all = read_strings();
  return all;
}

std::string first_bytes(std::string_view content) {  // of the hash
  const std::string hex = sha256_hex(content);
  std::string bytes;
  for (std::size_t k = 0; k < 4; ++k) bytes += static_cast<char>(std::stoi(hex.substr(2 * k, 2), nullptr, 16));
  return bytes;
}

// As digest() in make_tokenizers.py: ids under three options, texts under two.
std::string digest(const Tokenizer& tokenizer, const std::string& text) {
  const std::vector<std::int32_t> ids = tokenizer.encode(text);
  std::vector<std::int32_t> all = ids;
  for (const bool parse_special : {true, false}) {
    const auto more = tokenizer.encode(text, {.add_special_tokens = false, .parse_special = parse_special});
    all.push_back(-1);
    all.insert(all.end(), more.begin(), more.end());
  }
  const std::string decoded = tokenizer.decode(ids, {.skip_special_tokens = false}) + std::string("\n\0", 2) +
                              tokenizer.decode(ids, {.skip_special_tokens = true});
  return first_bytes({reinterpret_cast<const char*>(all.data()), all.size() * sizeof(std::int32_t)}) +
         first_bytes(decoded);
}

std::string shown(std::string_view text) {
  return nlohmann::json(text.substr(0, 200)).dump(-1, ' ', true, nlohmann::json::error_handler_t::replace);
}

void expect_reference_results(const fs::path& folder) {
  const Tokenizer tokenizer = Tokenizer::load(folder);
  const std::string expected = read_file(folder / "digests.bin");
  ASSERT_EQ(expected.size(), strings().size() * 8);
  const auto first = nlohmann::json::parse(read_file(folder / "first.json"));
  int wrong = 0;
  for (const auto& [index, ids] : first.items()) {
    const std::string& text = strings()[std::stoul(index)];
    if (tokenizer.encode(text) != ids.get<std::vector<std::int32_t>>() && ++wrong <= 3)
      ADD_FAILURE() << "string " << index << " " << shown(text) << ": " << nlohmann::json(tokenizer.encode(text)).dump()
                    << ", reference " << ids.dump();
  }
  for (std::size_t k = 0; k < strings().size(); ++k) {
    const std::string got = digest(tokenizer, strings()[k]);
    const std::string want = expected.substr(8 * k, 8);
    if (got != want && ++wrong <= 10)
      ADD_FAILURE() << "string " << k << " " << shown(strings()[k]) << ": "
                    << (got.substr(0, 4) == want.substr(0, 4) ? "decoded text" : "ids") << " differ; ids here "
                    << nlohmann::json(tokenizer.encode(strings()[k].substr(0, 200))).dump();
  }
  EXPECT_EQ(wrong, 0) << "of " << strings().size();
}

class Family : public testing::TestWithParam<const char*> {};

TEST_P(Family, encodes_and_decodes_5000_strings_as_the_reference_does) {
  ASSERT_EQ(strings().size(), 5000u);
  expect_reference_results(kGolden / GetParam());
}

INSTANTIATE_TEST_SUITE_P(Golden, Family,
                         testing::Values("gpt2", "neox", "llama3", "smollm2", "roberta", "byte_fallback",
                                         "bert_uncased", "bert_cased", "gpt2_files", "distilbert_files"),
                         [](const auto& family) { return std::string(family.param); });

// Compares a variant's two bytes a string, then the hash over all.
void expect_variant(const Tokenizer& tokenizer, const nlohmann::json& variant, const nlohmann::json& indices) {
  const std::string name = variant["name"], short_digests = variant["short"];
  std::string all;
  int wrong = 0;
  for (std::size_t k = 0; k < indices.size(); ++k) {
    const std::string& text = strings()[indices[k].get<std::size_t>()];
    const std::string eight = digest(tokenizer, text);
    all += eight;
    const auto byte = [&](std::size_t at) { return std::stoi(short_digests.substr(4 * k + at, 2), nullptr, 16); };
    const bool same_ids = static_cast<unsigned char>(eight[0]) == byte(0);
    const bool same_text = static_cast<unsigned char>(eight[4]) == byte(2);
    if ((!same_ids || !same_text) && ++wrong <= 2)
      ADD_FAILURE() << name << ": " << (same_ids ? "decoded text" : "ids") << " of " << shown(text) << "; ids here "
                    << nlohmann::json(tokenizer.encode(text)).dump();
  }
  EXPECT_EQ(sha256_hex(all), variant["all"]) << name << ": " << wrong << " strings differ";
}

TEST(Golden, components_on_their_own_agree_with_the_reference) {
  const auto golden = nlohmann::json::parse(read_file(kGolden / "variants.json"));
  for (const auto& variant : golden["variants"]) {
    auto file = nlohmann::json::parse(read_file(kGolden / variant["base"].get<std::string>() / "tokenizer.json"));
    for (const auto& [key, value] : variant["change"].items()) {
      const std::vector<std::string> path = split(key, '.');
      (path.size() == 2 ? file[path[0]][path[1]] : file[key]) = value;
    }
    expect_variant(Tokenizer::parse(file.dump(), variant["name"]), variant, golden["strings"]);
  }
}

// make_vocab_files.py: settings of transformers' classes, other special and added tokens, other line ends.
TEST(Golden, folders_without_tokenizer_json_agree_with_transformers) {
  const auto golden = nlohmann::json::parse(read_file(kGolden / "vocab_files.json"));
  const fs::path folder = fs::path(testing::TempDir()) / ("vocab_files." + std::to_string(::getpid()));
  for (const auto& variant : golden["variants"]) {
    make_folders(folder);
    const fs::path base = kGolden / variant["base"].get<std::string>();
    for (const char* name : {"vocab.json", "merges.txt", "vocab.txt", "tokenizer_config.json"})
      if (fs::exists(base / name)) fs::copy_file(base / name, folder / name);
    for (const auto& [name, content] : variant["files"].items()) {
      if (content.is_null()) fs::remove(folder / name);
      else write_file_atomically(folder / name, content.get<std::string>());
    }
    expect_variant(Tokenizer::load(folder), variant, golden["strings"]);
    fs::remove_all(folder);
  }
}

// Tokenizers that cannot be kept here: folders made by `make_tokenizers.py --private`, separated by colons.
TEST(Golden, private_folders_agree_with_the_reference) {
  const char* const folders = std::getenv("VBON_TEST_TOKENIZERS");
  if (folders == nullptr) GTEST_SKIP() << "VBON_TEST_TOKENIZERS names no folders";
  for (const std::string& folder : split(folders, ':')) expect_reference_results(folder);
}

}  // namespace
}  // namespace vbon
