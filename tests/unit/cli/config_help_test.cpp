#include "vbon/cli/config_help.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

#include "cli/text_layout.hpp"
#include "unit/cli/sample_config.hpp"

namespace vbon {
namespace {

using test::Config;
using testing::HasSubstr;
using testing::Not;

std::string help(std::string_view topic, int width = 100) {
  const auto docs = config_docs<Config>();
  return config_help(docs, topic, width);
}

TEST(ConfigHelp, a_section_as_an_aligned_table) {
  EXPECT_EQ(help("sampling"),
            R"(sampling: how responses are drawn
  key          type               default  unit    meaning
  temperature  number             1.0              softmax temperature, > 0
  top_k        integer            0        tokens  only the k likeliest tokens; 0: all
  seed_offset  integer            0                added to the seed
  greedy       true | false       false            take the likeliest token
  method       vbon | ppo | none  vbon             what is trained

sampling.schedule: learning rate over time
  key           type     default  unit   meaning
  warmup_steps  integer  10       steps  steps until the full learning rate
  decay         number   0.5             share left at the end
)");
}

TEST(ConfigHelp, required_and_secret_keys_and_those_without_a_value) {
  EXPECT_THAT(help("model.path"), HasSubstr("path  text  required  folder of the reference model\n"));
  EXPECT_THAT(help("model"), HasSubstr("model: the reference model\n"));
  EXPECT_THAT(help("model.path"), Not(HasSubstr("dtype")));
  EXPECT_THAT(help("lists.beta"), HasSubstr("beta  number | none  none     nats  weight of the KL\n"));
  EXPECT_THAT(help("lists.roles"), HasSubstr("auto | {rollout: R,"));
  EXPECT_THAT(help("lists.token"), HasSubstr("access token (secret: in no file that is written)"));
}

TEST(ConfigHelp, everything_names_every_key_once) {
  const std::string all = help("");
  for (const SectionDoc& section : config_docs<Config>()) {
    EXPECT_THAT(all, HasSubstr(section.path + ": " + section.meaning));
    for (const KeyDoc& key : section.keys) EXPECT_THAT(all, HasSubstr("\n  " + key.name + " "));
  }
}

TEST(ConfigHelp, keeps_to_the_width_of_the_terminal) {
  for (const int width : {60, 72, 80, 100, 140}) {
    std::istringstream lines(help("", width));
    for (std::string line; std::getline(lines, line);)
      EXPECT_LE(display_width(line), static_cast<std::size_t>(width)) << line;
  }
  EXPECT_FALSE(help("", 1).empty());
}

TEST(ConfigHelp, an_unknown_topic_names_the_nearest) {
  const auto docs = config_docs<Config>();
  const auto error = [&](std::string_view topic) -> std::string {
    try {
      config_help(docs, topic, 80);
    } catch (const UserError& e) {
      return e.what();
    }
    return "";
  };
  EXPECT_EQ(error("samplign"), "there is no section or key 'samplign'; did you mean 'sampling'?");
  EXPECT_EQ(error("sampling.topk"), "there is no section or key 'sampling.topk'; did you mean 'sampling.top_k'?");
  EXPECT_EQ(error("qqqqqqqqqqqqq"), "there is no section or key 'qqqqqqqqqqqqq'; sections are: model, sampling, lists");
}

TEST(ConfigMarkdown, has_a_table_a_section) {
  const auto docs = config_docs<Config>();
  const std::string text = config_markdown(docs);
  EXPECT_THAT(text, HasSubstr("## `model`\n\nthe reference model\n\n| key | type | default | unit | meaning |\n"
                              "|---|---|---|---|---|\n"
                              "| `path` | text | **required** |  | folder of the reference model |\n"
                              "| `dtype` | text | `f32` |  | type of the weights when loaded |\n\n## `sampling`\n"));
  EXPECT_THAT(text, HasSubstr("| `greedy` | true \\| false | `false` |  | take the likeliest token |\n"));
  EXPECT_THAT(text, HasSubstr("| `names` | list of text | `[]` |  | some names |\n"));
  EXPECT_THAT(text, HasSubstr("| `rates` | list of number | `[]` | 1/s | some rates |\n"));
}

}  // namespace
}  // namespace vbon
