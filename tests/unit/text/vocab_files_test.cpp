// Folders without tokenizer.json: what is refused, which files count. What they mean is golden_test.cpp's.
#include "text/vocab_files.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/text/tokenizer.hpp"

namespace vbon {
namespace {

using nlohmann::json;
using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

class VocabFiles : public testing::Test {
 protected:
  void SetUp() override { make_folders(folder_); }
  void TearDown() override { fs::remove_all(folder_); }

  void write(const std::string& name, const std::string& content) { write_file_atomically(folder_ / name, content); }
  void gpt2() {
    write("vocab.json", R"({"a": 0, "b": 1, "ab": 2, "<|endoftext|>": 3})");
    write("merges.txt", "#version: 0.2\na b\n");
  }
  void bert() { write("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nfilm\n##s\n"); }
  Tokenizer load() const { return Tokenizer::load(folder_); }
  std::string refusal() const {
    try {
      load();
    } catch (const UserError& error) {
      return error.what();
    }
    return "accepted";
  }
  // What is said of another content of one file; the file is as before afterwards.
  std::string refusal_with(const std::string& name, const std::string& content) {
    const bool there = fs::exists(folder_ / name);
    const std::string before = there ? read_file(folder_ / name) : "";
    write(name, content);
    const std::string said = refusal();
    if (there) write(name, before);
    else fs::remove(folder_ / name);
    return said;
  }

  fs::path folder_ = fs::path(testing::TempDir()) / ("vocab_files_test." + std::to_string(::getpid()));
};

TEST_F(VocabFiles, are_read_where_tokenizer_json_is_missing) {
  gpt2();
  EXPECT_THAT(load().encode("abba<|endoftext|>"), ElementsAre(2, 1, 0, 3));
  EXPECT_EQ(load().decode(std::vector<std::int32_t>{2, 3, 1}), "abb");
  EXPECT_TRUE(load().is_special(3));
  write("tokenizer.json", R"({"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}})");
  EXPECT_THAT(load().encode("aa"), ElementsAre(0, 0));
  EXPECT_THAT(tokenizer_sources(folder_), ElementsAre("tokenizer.json"));
  EXPECT_EQ(load().sha256(), sha256_file(folder_ / "tokenizer.json"));
}

TEST_F(VocabFiles, that_decide_are_hashed) {
  EXPECT_THAT(tokenizer_sources(folder_), IsEmpty());
  gpt2();
  EXPECT_THAT(tokenizer_sources(folder_), ElementsAre("merges.txt", "vocab.json"));
  std::vector<std::string> hashes = {load().sha256()};
  const auto expect_new_hash = [&](const std::string& name, const std::string& content) {
    write(name, content);
    const std::string now = load().sha256();
    EXPECT_THAT(hashes, testing::Not(testing::Contains(now))) << name;
    hashes.push_back(now);
  };
  expect_new_hash("merges.txt", "");
  expect_new_hash("vocab.json", R"({"b": 0, "a": 1, "ab": 2, "<|endoftext|>": 3})");
  expect_new_hash("tokenizer_config.json", R"({"add_prefix_space": true})");
  expect_new_hash("special_tokens_map.json", R"({"pad_token": "<pad>"})");
  expect_new_hash("added_tokens.json", R"({"<pad>": 4})");
  write("vocab.txt", "unused");
  EXPECT_EQ(load().sha256(), hashes.back());
  EXPECT_THAT(tokenizer_sources(folder_), ElementsAre("added_tokens.json", "merges.txt", "special_tokens_map.json",
                                                      "tokenizer_config.json", "vocab.json"));
}

TEST_F(VocabFiles, missing_ones_are_named_with_the_way_out) {
  const auto way_out = AllOf(HasSubstr("tokenizer.json"), HasSubstr("vocab.json with merges.txt"),
                             HasSubstr("vocab.txt"), HasSubstr("save_pretrained"), HasSubstr(folder_.string()));
  EXPECT_THAT(refusal(), way_out);
  for (const char* name : {"tokenizer.model", "spiece.model", "vocab.json"}) {
    EXPECT_THAT(refusal_with(name, "{}"), AllOf(way_out, HasSubstr(std::string("only ") + name)));
    EXPECT_THAT(tokenizer_sources(folder_), IsEmpty());
  }
}

TEST_F(VocabFiles, of_another_class_are_refused) {
  gpt2();
  EXPECT_THAT(refusal_with("tokenizer_config.json", R"({"tokenizer_class": "RobertaTokenizerFast"})"),
              AllOf(HasSubstr("is a RobertaTokenizer;"), HasSubstr("save_pretrained")));
  EXPECT_THAT(refusal_with("config.json", R"({"model_type": "qwen2"})"), HasSubstr("model_type qwen2"));
  EXPECT_THAT(refusal_with("config.json", R"({"model_type": "bert"})"), HasSubstr("is a BertTokenizer;"));
  write("config.json", R"({"model_type": "llama"})");
  EXPECT_THROW(tokenizer_sources(folder_), UserError);
  write("tokenizer_config.json", R"({"tokenizer_class": "GPT2TokenizerFast"})");
  EXPECT_EQ(refusal(), "accepted");
  bert();
  EXPECT_EQ(load().id("ab"), 2);
  write("tokenizer_config.json", R"({"tokenizer_class": "DistilBertTokenizer"})");
  EXPECT_EQ(load().id("##s"), 6);
}

TEST_F(VocabFiles, damaged_vocab_json) {
  gpt2();
  const auto said = [&](const std::string& content) { return refusal_with("vocab.json", content); };
  EXPECT_THAT(said("{\"a\": 0,\n\"b\"}"), AllOf(HasSubstr("vocab.json"), HasSubstr("line 2")));
  EXPECT_THAT(said("[1]"), AllOf(HasSubstr("vocab.json"), HasSubstr("no JSON object")));
  EXPECT_THAT(said(R"({"a": 0, "b": 2})"), AllOf(HasSubstr("vocab.json"), HasSubstr("the id 2 of token 'b'")));
  EXPECT_THAT(said(R"({"a": 0, "b": 0})"), AllOf(HasSubstr("'a' and 'b'"), HasSubstr("same id 0")));
  for (const char* id : {"-1", "0.5", "\"0\"", "null", "18446744073709551615"})
    EXPECT_THAT(said(fmt::format("{{\"a\": {}}}", id)), HasSubstr("of token 'a'")) << id;
}

TEST_F(VocabFiles, damaged_merges) {
  gpt2();
  const auto said = [&](const std::string& content) { return refusal_with("merges.txt", content); };
  EXPECT_EQ(said("a b"), "accepted");
  for (const char* line : {"", "ab", "a b c", "a  b"})
    EXPECT_THAT(said(fmt::format("#version: 0.2\n{}\na b\n", line)),
                AllOf(HasSubstr("merges.txt:2: "), HasSubstr("two tokens")))
        << line;
  EXPECT_THAT(said("# version\n"), HasSubstr("merges.txt:1: "));
  EXPECT_THAT(said("a b\na c\n"), AllOf(HasSubstr("merges.txt:2: "), HasSubstr("'c', which vocab.json lacks")));
  EXPECT_THAT(said("a b\nb a\n"), AllOf(HasSubstr("merges.txt:2: "), HasSubstr("'ba'")));
  EXPECT_THAT(said("a b\n\xFF a\n"), AllOf(HasSubstr("merges.txt:2: "), HasSubstr("UTF-8")));
}

TEST_F(VocabFiles, damaged_vocab_txt) {
  bert();
  const std::string whole = read_file(folder_ / "vocab.txt");
  const auto said = [&](const std::string& content) { return refusal_with("vocab.txt", content); };
  EXPECT_THAT(said(whole + "\nx\n"), AllOf(HasSubstr("vocab.txt:8: "), HasSubstr("empty")));
  EXPECT_THAT(said(whole + " \xC2\xA0\r\n"), AllOf(HasSubstr("vocab.txt:8: "), HasSubstr("empty")));
  EXPECT_THAT(said(whole + "film \n"), AllOf(HasSubstr("vocab.txt:8: "), HasSubstr("'film' stands in line 6")));
  EXPECT_THAT(said(whole + "\xE4\xB8\n"), AllOf(HasSubstr("vocab.txt:8: "), HasSubstr("UTF-8")));
  EXPECT_THAT(said("[PAD]\n[CLS]\n[SEP]\n"), AllOf(HasSubstr("vocab.txt"), HasSubstr("'[UNK]'")));
  EXPECT_THAT(said(""), HasSubstr("'[UNK]'"));
  EXPECT_THAT(refusal_with("tokenizer_config.json", R"({"unk_token": "<unk>"})"), HasSubstr("'<unk>'"));
  EXPECT_THAT(refusal_with("special_tokens_map.json", R"({"sep_token": null})"), HasSubstr("sep_token is null"));
}

TEST_F(VocabFiles, damaged_settings) {
  gpt2();
  const auto config = [&](const std::string& content) { return refusal_with("tokenizer_config.json", content); };
  EXPECT_THAT(config("{"), HasSubstr("tokenizer_config.json"));
  EXPECT_THAT(config("[]"), AllOf(HasSubstr("tokenizer_config.json"), HasSubstr("no JSON object")));
  EXPECT_THAT(config(R"({"add_prefix_space": 1})"),
              HasSubstr("tokenizer_config.json: add_prefix_space: true or false"));
  EXPECT_THAT(config(R"({"bos_token": 7})"), HasSubstr("tokenizer_config.json: bos_token: a string or an object"));
  EXPECT_THAT(config(R"({"bos_token": {"lstrip": true}})"), HasSubstr("'content' is missing"));
  EXPECT_THAT(config(R"({"bos_token": "", "add_bos_token": true})"), HasSubstr("before or after a text is empty"));
  EXPECT_THAT(config(R"({"extra_special_tokens": [{"content": "x", "normalized": false}, {"content": "x"}]})"),
              HasSubstr("the token 'x' twice"));
  EXPECT_THAT(config(R"({"image_token": "<i>"})"), HasSubstr("image_token"));
  EXPECT_THAT(config(R"({"extra_special_tokens": {"image": "<i>"}})"), HasSubstr("extra_special_tokens: an array"));
  EXPECT_THAT(config(R"({"added_tokens_decoder": {"x": {"content": "y"}}})"), HasSubstr("must be an id"));
  EXPECT_THAT(config(R"({"added_tokens_decoder": {"9": {"content": "y"}}})"), HasSubstr("has the id 9, but 4"));
  EXPECT_THAT(config(R"({"added_tokens_decoder": []})"), HasSubstr("added_tokens_decoder: an object"));
  EXPECT_EQ(config(R"({"added_tokens_decoder": {"4": {"content": "y"}, "2": {"content": "ab"}}})"), "accepted");
  const auto added = [&](const std::string& content) { return refusal_with("added_tokens.json", content); };
  EXPECT_THAT(added(R"({"x": 5})"), AllOf(HasSubstr("added_tokens.json: x"), HasSubstr("has the id 5, but 4")));
  EXPECT_THAT(added(R"({"a": 4})"), HasSubstr("has the id 4, but 0"));
  EXPECT_THAT(added(R"({"x": 4, "y": 4})"), HasSubstr("'x' has the id 4, too"));
  EXPECT_THAT(added(R"({"x": "4"})"), HasSubstr("whole number"));
  EXPECT_THAT(added(json({{std::string(5000, 'x'), 4}}).dump()), HasSubstr("5000 bytes"));
  EXPECT_EQ(added(R"({"x": 4, "y": 5})"), "accepted");
  EXPECT_THAT(refusal_with("config.json", "{\"model_type\": 3}"), HasSubstr("config.json: model_type"));
}

}  // namespace
}  // namespace vbon
