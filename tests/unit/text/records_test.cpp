#include "vbon/text/records.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/sha256.hpp"

namespace vbon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;

class Records : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(testing::TempDir()) / ("records_test." + std::to_string(::getpid()));
    make_folders(folder_);
  }
  void TearDown() override { fs::remove_all(folder_); }
  fs::path file(const std::string& content, const std::string& name = "data.jsonl") {
    write_file_atomically(folder_ / name, content);
    return folder_ / name;
  }
  // The message with which `read` refuses the content.
  template <class Read>
  std::string refusal(Read&& read, const std::string& content, const std::string& name = "data.jsonl") {
    try {
      read(file(content, name));
    } catch (const UserError& error) {
      return error.what();
    }
    ADD_FAILURE() << "accepted: " << content;
    return {};
  }
  fs::path folder_;
};

TEST_F(Records, prompts_have_ids_from_the_file_or_line_numbers) {
  const PromptSet set =
      read_prompts(file("{\"prompt\": \"one\", \"extra\": [1]}\n\n{\"prompt\": \"tw\\u00f6\", \"id\": 70}\r\n"
                        "{\"id\": null, \"prompt\": \" three \"}"));
  EXPECT_THAT(set.ids, ElementsAre(1, 70, 4));
  EXPECT_THAT(set.texts, ElementsAre("one", "tw\xC3\xB6", " three "));
  EXPECT_EQ(set.text_sha256[0], sha256_hex("one"));
  EXPECT_EQ(set.sha256, sha256_hex("1 3 one70 4 tw\xC3\xB6"
                                   "4 7  three "));
  EXPECT_EQ(set.key(), sha256_prefix64(set.sha256));
}

TEST_F(Records, plain_text_is_one_prompt_a_line) {
  const PromptSet set = read_prompts(file("\xEF\xBB\xBFThe film \r\n\n{ is a brace\n\"quoted\"\n", "prompts.txt"));
  EXPECT_THAT(set.ids, ElementsAre(1, 3, 4));
  EXPECT_THAT(set.texts, ElementsAre("The film ", "{ is a brace", "\"quoted\""));
  EXPECT_THAT(read_prompts(file("\n {\"prompt\": \"a\"}\n", "prompts.txt")).texts, ElementsAre("a"));
}

TEST_F(Records, the_hash_of_a_set_tells_sets_apart) {
  const std::string one = make_prompt_set({1, 2}, {"ab", "c"}).sha256;
  EXPECT_EQ(one, read_prompts(file("ab\nc\n", "p.txt")).sha256);
  EXPECT_NE(one, make_prompt_set({1, 2}, {"a", "bc"}).sha256);
  EXPECT_NE(one, make_prompt_set({2, 1}, {"ab", "c"}).sha256);
  EXPECT_THROW(make_prompt_set({1, 1}, {"a", "b"}), UserError);
  EXPECT_THROW(make_prompt_set({1}, {"a", "b"}), UserError);
  EXPECT_THROW(make_prompt_set({}, {}), UserError);
  EXPECT_THROW(make_prompt_set({1}, {""}), UserError);
  EXPECT_THROW(make_prompt_set({1}, {"\xFF"}), UserError);
  EXPECT_THROW(make_prompt_set({-1}, {"a"}), UserError);
}

TEST_F(Records, bad_prompts_are_refused_with_file_and_line) {
  EXPECT_THAT(refusal(read_prompts, ""), HasSubstr("holds no prompts"));
  EXPECT_THAT(refusal(read_prompts, "\n \n", "p.txt"), HasSubstr("holds no prompts"));
  EXPECT_THAT(refusal(read_prompts, "{\"prompt\": \"a\"}\n{\"prompt\": \"\"}\n"),
              HasSubstr("data.jsonl:2: 'prompt' is empty"));
  EXPECT_THAT(refusal(read_prompts, "{\"text\": \"a\"}"), HasSubstr(":1: the key 'prompt' is missing"));
  EXPECT_THAT(refusal(read_prompts, "{\"prompt\": 3}"), HasSubstr("'prompt' is number, not a string"));
  EXPECT_THAT(refusal(read_prompts, "[\"a\"]"), HasSubstr("a JSON object is needed"));
  EXPECT_THAT(refusal(read_prompts, "{\"prompt\": \"a\""), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(read_prompts, "{\"prompt\": \"a\"} x"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(read_prompts, "{\"prompt\": \"a\xFF\"}"), HasSubstr(":1: not valid UTF-8"));
  EXPECT_THAT(refusal(read_prompts, "ok\nbad \xC3(\n", "p.txt"), HasSubstr("p.txt:2: not valid UTF-8"));
  EXPECT_THAT(refusal(read_prompts, "{\"prompt\": \"\\ud800\"}"), HasSubstr("not valid JSON"));
  const std::string deep = std::string(500000, '[') + std::string(500000, ']');
  EXPECT_THAT(refusal(read_prompts, "{\"prompt\": \"a\", \"id\": " + deep + "}"), HasSubstr("nested deeper"));
  EXPECT_THAT(refusal(read_reward_texts, "{\"chosen\": " + deep + "}"), HasSubstr("nested deeper"));
  for (const char* id : {"-1", "1.5", "\"7\"", "true", "99999999999999999999"})
    EXPECT_THAT(refusal(read_prompts, std::string("{\"prompt\": \"a\", \"id\": ") + id + "}"), HasSubstr("'id' is"));
  EXPECT_THAT(refusal(read_prompts, "{\"prompt\": \"a\", \"id\": 5}\n\n{\"prompt\": \"b\", \"id\": 5}"),
              HasSubstr(":3: the id 5 is already that of line 1"));
  EXPECT_THAT(refusal(read_prompts, "{\"prompt\": \"a\", \"id\": 2}\n{\"prompt\": \"b\"}"),
              HasSubstr("the id 2 is already"));
  EXPECT_THROW(read_prompts(folder_ / "missing.jsonl"), UserError);
  EXPECT_THROW(read_prompts(folder_), UserError);
}

TEST_F(Records, all_bad_lines_are_counted_and_the_first_shown) {
  std::string content;
  for (int k = 0; k < 40; ++k) content += k % 2 == 0 ? "{\"prompt\": \"a\"}\n" : "{\"prompt\": null}\n";
  EXPECT_THAT(refusal(read_prompts, content), AllOf(HasSubstr("20 bad lines"), HasSubstr(":2: "), HasSubstr(":10: "),
                                                    Not(HasSubstr(":12: ")), HasSubstr("and 15 more")));
}

TEST_F(Records, texts) {
  const auto texts = read_texts(file(
      "{\"text\": \"whole\"}\n{\"prompt\": \"p \", \"response\": \"r\"}\n{\"prompt\": \"\", \"response\": \"r\"}\n"));
  ASSERT_EQ(texts.size(), 3u);
  EXPECT_EQ(texts[0].prompt + "|" + texts[0].response, "|whole");
  EXPECT_EQ(texts[1].prompt + "|" + texts[1].response, "p |r");
  EXPECT_THAT(refusal(read_texts, "{\"prompt\": \"a\"}"), HasSubstr("either 'text' or 'prompt' and 'response'"));
  EXPECT_THAT(refusal(read_texts, "{\"text\": \"a\", \"response\": \"b\"}"), HasSubstr("either 'text' or"));
  EXPECT_THAT(refusal(read_texts, "{\"response\": \"b\"}"), HasSubstr("'prompt' is missing"));
  EXPECT_THAT(refusal(read_texts, "{\"text\": \"\"}"), HasSubstr("'text' is empty"));
  EXPECT_THAT(refusal(read_texts, "\n"), HasSubstr("holds no texts"));
}

TEST_F(Records, labels_and_scores) {
  const LabelSet labels =
      read_labels(file("{\"text\": \"a\", \"label\": 1}\n{\"text\": \"b\", \"label\": 0.25, \"weight\": 2}\n"));
  EXPECT_FALSE(labels.scores);
  EXPECT_EQ(labels.records[0].value, 1.0);
  EXPECT_EQ(labels.records[0].weight, 1.0);
  EXPECT_EQ(labels.records[1].value, 0.25);
  EXPECT_EQ(labels.records[1].weight, 2.0);
  const LabelSet scores = read_labels(file("{\"text\": \"a\", \"score\": -3.5}\n"));
  EXPECT_TRUE(scores.scores);
  EXPECT_EQ(scores.records[0].value, -3.5);
  EXPECT_THAT(refusal(read_labels, "{\"text\": \"a\", \"label\": 1.5}"), HasSubstr("it lies in [0, 1]"));
  EXPECT_THAT(refusal(read_labels, "{\"text\": \"a\", \"label\": true}"),
              HasSubstr("'label' is boolean, not a number"));
  EXPECT_THAT(refusal(read_labels, "{\"text\": \"a\"}"), HasSubstr("one of 'label'"));
  EXPECT_THAT(refusal(read_labels, "{\"text\": \"a\", \"label\": 1, \"score\": 1}"), HasSubstr("one of 'label'"));
  EXPECT_THAT(refusal(read_labels, "{\"text\": \"a\", \"label\": 1}\n{\"text\": \"a\", \"score\": 1}"),
              HasSubstr(":2: a file has either"));
  EXPECT_THAT(refusal(read_labels, "{\"text\": \"a\", \"score\": 1e999}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(read_labels, "{\"text\": \"a\", \"score\": NaN}"), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(read_labels, "{\"text\": \"a\", \"label\": 1, \"weight\": -1}"), HasSubstr("'weight' is -1"));
}

TEST_F(Records, pairs) {
  const auto pairs = read_pairs(file("{\"prompt\": \"\", \"chosen\": \"c\", \"rejected\": \"r\", \"weight\": 0.5}\n"));
  ASSERT_EQ(pairs.size(), 1u);
  EXPECT_EQ(pairs[0].chosen + pairs[0].rejected, "cr");
  EXPECT_EQ(pairs[0].weight, 0.5);
  EXPECT_THAT(refusal(read_pairs, "{\"prompt\": \"p\", \"chosen\": \"c\"}"), HasSubstr("'rejected' is missing"));
  EXPECT_THAT(refusal(read_pairs, "{\"prompt\": \"p\", \"chosen\": \"c\", \"rejected\": []}"),
              HasSubstr("'rejected' is array"));
  EXPECT_EQ(read_pairs(file("{\"chosen\": \"c\", \"rejected\": \"r\"}\n"))[0].prompt, "");
  EXPECT_THAT(refusal(read_pairs, "{\"prompt\": 1, \"chosen\": \"c\", \"rejected\": \"r\"}"),
              HasSubstr("'prompt' is number"));
}

TEST_F(Records, reward_texts_are_of_one_kind_by_the_first_record) {
  const std::string pair = "{\"chosen\": \"c\", \"rejected\": \"r\"}\n", label = "{\"text\": \"a\", \"label\": 1}\n";
  EXPECT_EQ(std::get<std::vector<PairRecord>>(read_reward_texts(file("\n" + pair + pair))).size(), 2u);
  EXPECT_EQ(std::get<LabelSet>(read_reward_texts(file("\n" + label))).records.size(), 1u);
  EXPECT_THAT(refusal(read_reward_texts, pair + "\n" + label), HasSubstr(":3: a labelled text among pairs"));
  EXPECT_THAT(refusal(read_reward_texts, label + pair), HasSubstr(":2: a pair among labelled texts"));
  EXPECT_THAT(refusal(read_reward_texts, "{\"chosen\": \"c\"}"), HasSubstr(":1: the key 'rejected' is missing"));
  EXPECT_THAT(refusal(read_reward_texts, "[" + pair), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(read_reward_texts, "\n"), HasSubstr("holds no labels"));
}

TEST_F(Records, deeply_nested_lines_are_no_trouble) {
  EXPECT_THAT(refusal(read_pairs, std::string(1000000, '[')), HasSubstr("not valid JSON"));
  EXPECT_THAT(refusal(read_pairs, std::string(200000, '[') + std::string(200000, ']')),
              HasSubstr("nested deeper than 64 levels"));
}

}  // namespace
}  // namespace vbon
