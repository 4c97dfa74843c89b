// The resolved text: reads back equal, here and with an independent reader; hashes; and no mutation of it crashes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <yaml-cpp/yaml.h>

#include <cmath>
#include <limits>
#include <random>

#include "unit/cli/sample_config.hpp"
#include "vbon/base/words.hpp"
#include "vbon/cli/yaml.hpp"

namespace vbon {
namespace {

using test::Config;
using test::Method;

std::string random_text(std::mt19937_64& random) {
  // clang-format off
  static const std::vector<std::string> kPieces = {
      "a", "Z", "0", "9", " ", "  ", "'", "\"", "\\", "\n", "\t", "\r", ":", ": ", "#", " #", "-", "- ", "{", "}",
      "[", "]", ",", "&", "*", "!", "|", ">", "%", "@", "`", "?", "$", "${", "$${", "~", "null", "none", "true", "no",
      "1e5", "0x1", ".5", "...", "---", "<<", "=", "\x01", "\x7F", "\xC3\xA9", "\xC2\x85", "\xE2\x80\xA8",
      "\xE2\x80\xA9", "\xEF\xBB\xBF", "\xF0\x9F\x98\x80", "\xE4\xB8\xAD", "models/a-b_c.json", "/x", "../y",
      "2026-01-31"};
  // clang-format on
  std::string text;
  for (auto count = random() % 6; count > 0; --count) text += kPieces[random() % kPieces.size()];
  return text;
}

double random_number(std::mt19937_64& random) {
  for (;;) {
    double value = 0;
    const std::uint64_t bits = random();
    switch (random() % 4) {
      case 0: std::memcpy(&value, &bits, sizeof value); break;
      case 1: value = static_cast<double>(static_cast<int>(bits % 2001) - 1000); break;
      case 2: value = static_cast<double>(bits % 1000) / 1000.0; break;
      default: value = std::ldexp(1.0, static_cast<int>(bits % 200) - 100); break;
    }
    if (std::isfinite(value) && (value == 0.0 || std::fpclassify(value) == FP_NORMAL)) return value;
  }
}

Config random_config(std::mt19937_64& random) {
  Config c;
  const auto coin = [&] { return random() % 2 == 0; };
  const auto method = [&] { return static_cast<Method>(random() % 3); };
  c.model = {.path = random_text(random), .dtype = random_text(random)};
  c.sampling.temperature = random_number(random);
  c.sampling.top_k = static_cast<int>(random());
  c.sampling.seed_offset = static_cast<std::int64_t>(random());
  c.sampling.greedy = coin();
  c.sampling.method = method();
  c.sampling.schedule = {.warmup_steps = static_cast<int>(random() % 100), .decay = random_number(random)};
  for (auto n = random() % 4; n > 0; --n) c.lists.names.push_back(random_text(random));
  c.lists.sizes.clear();
  for (auto n = random() % 3; n > 0; --n) c.lists.sizes.push_back(static_cast<int>(random()));
  for (auto n = random() % 3; n > 0; --n) c.lists.rates.push_back(random_number(random));
  for (auto n = random() % 3; n > 0; --n) c.lists.flags.push_back(coin());
  for (auto n = random() % 3; n > 0; --n) c.lists.methods.push_back(method());
  if (coin()) c.lists.limit = static_cast<int>(random());
  if (coin()) c.lists.seed = static_cast<std::int64_t>(random());
  if (coin()) c.lists.beta = random_number(random);
  if (coin()) c.lists.label = random_text(random);
  if (coin()) c.lists.second_method = method();
  if (coin()) c.lists.command = std::vector<std::string>{random_text(random), random_text(random)};
  if (coin()) c.lists.fixed = coin();
  const std::string roles = random_text(random);
  if (!roles.starts_with("bad")) c.lists.roles.content = coin() ? roles : "{rollout: 2, scorer: [a, 1]}";
  return c;
}

std::optional<std::string> no_variables(const std::string&) { return std::nullopt; }

TEST(Resolved, reads_back_to_an_equal_config_and_the_same_text) {
  std::mt19937_64 random(1);
  for (int trial = 0; trial < 1000; ++trial) {
    const Config config = random_config(random);
    const ResolvedConfig resolved = resolve_config(config);
    const auto again = load_config_text<Config>(resolved.yaml(), "again", no_variables);
    ASSERT_EQ(again.value, config) << resolved.yaml();
    ASSERT_EQ(again.resolved_yaml, resolved.yaml());
    ASSERT_EQ(again.hash(), resolved.hash());
  }
}

// yaml-cpp's node interface shares only the scanner with our reader.
TEST(Resolved, another_reader_sees_the_same_values) {
  std::mt19937_64 random(2);
  for (int trial = 0; trial < 300; ++trial) {
    const Config config = random_config(random);
    const YAML::Node root = YAML::Load(resolve_config(config).yaml());
    std::string path = root["model"]["path"].as<std::string>();
    for (std::size_t at = path.find("$${"); at != std::string::npos; at = path.find("$${", at + 2)) path.erase(at, 1);
    ASSERT_EQ(path, config.model.path);
    ASSERT_EQ(root["sampling"]["temperature"].as<double>(), config.sampling.temperature);
    ASSERT_EQ(root["sampling"]["top_k"].as<int>(), config.sampling.top_k);
    ASSERT_EQ(root["sampling"]["seed_offset"].as<std::int64_t>(), config.sampling.seed_offset);
    ASSERT_EQ(root["sampling"]["greedy"].as<bool>(), config.sampling.greedy);
    ASSERT_EQ(root["lists"]["sizes"].as<std::vector<int>>(), config.lists.sizes);
    ASSERT_EQ(root["lists"]["rates"].as<std::vector<double>>(), config.lists.rates);
    ASSERT_EQ(root["lists"]["limit"].IsNull(), !config.lists.limit.has_value());
    ASSERT_EQ(root["lists"]["names"].size(), config.lists.names.size());
  }
}

TEST(Resolved, is_readable_and_in_field_order) {
  Config config;
  config.model.path = "models/ref";
  config.lists.label = "none";
  config.lists.names = {"plain", "two words"};
  config.sampling.schedule.decay = 1e-5;
  config.lists.roles.content = "{rollout: 2, scorer: 1}";
  EXPECT_EQ(resolve_config(config).yaml(),
            "model:\n  path: models/ref\n  dtype: f32\n"
            "sampling:\n  temperature: 1.0\n  top_k: 0\n  seed_offset: 0\n  greedy: false\n  method: vbon\n"
            "  schedule:\n    warmup_steps: 10\n    decay: 1.0e-05\n"
            "lists:\n  names: [plain, \"two words\"]\n  sizes: [1, 2]\n  rates: []\n  flags: []\n  methods: []\n"
            "  limit: null\n  seed: null\n  beta: null\n  label: \"none\"\n  second_method: null\n  command: null\n"
            "  fixed: null\n  roles: {rollout: 2, scorer: 1}\n");
}

TEST(Resolved, the_hash_sees_every_key_but_those_left_out) {
  const std::vector<std::string> left_out = {"model", "sampling.schedule", "lists.seed"},
                                 but_path = {"model", "!model.path"};
  Config base;
  base.model.dtype = "bf16";
  const std::string all = resolve_config(base).hash();
  const std::string some = resolve_config(base).hash(left_out);
  EXPECT_EQ(all.size(), 64u);
  EXPECT_NE(all, some);
  EXPECT_EQ(some, resolve_config(Config{}).hash()) << "what is at its default does not count";
  EXPECT_EQ(some, resolve_config(base).hash(but_path));

  Config changed = base;
  changed.model.path = "x";
  changed.sampling.schedule.decay = 0.1;
  changed.lists.seed = 3;
  EXPECT_NE(resolve_config(changed).hash(), all);
  EXPECT_EQ(resolve_config(changed).hash(left_out), some);
  EXPECT_NE(resolve_config(changed).hash(but_path), some) << "taken back in";
  EXPECT_TRUE(config_differences(resolve_config(base), resolve_config(changed), left_out).empty());
  changed.sampling.top_k = 4;
  EXPECT_NE(resolve_config(changed).hash(left_out), some);
  EXPECT_EQ(config_differences(resolve_config(base), resolve_config(changed), left_out),
            std::vector<std::string>{"sampling.top_k: 0 -> 4"});
}

TEST(Resolved, differences_name_keys_that_only_one_side_has) {
  const ResolvedConfig before({{.path = "a.old", .text = "1"}, {.path = "a.same", .text = "2"}});
  const ResolvedConfig after({{.path = "a.same", .text = "2"}, {.path = "a.new", .text = "3"}});
  EXPECT_EQ(config_differences(before, after),
            (std::vector<std::string>{"a.new: (no such key) -> 3", "a.old: 1 -> (no such key)"}));
}

TEST(Mutations, of_a_file_load_or_are_refused_and_never_crash) {
  const std::string original = R"(# a config
model: &m {path: "${HOME:-x}/models", dtype: f32}
sampling:
  temperature: 0.7
  top_k: 40
  greedy: false
  method: 'ppo'
  schedule: {warmup_steps: 3, decay: 1e-4}
lists:
  names: &names [a, "b\tc", *unknown]
  sizes:
    - 1
    - 2
  label: |
    several
    lines
  command: *names
  roles: {rollout: 2, scorer: 1}
)";
  static const std::string kSpecial = "{}[]:,&*!|>'\"%@`#-? \n\t\\$~0e.<=\x01\x04\xFF";
  std::mt19937_64 random(3);
  int loaded = 0;
  int refused = 0;
  for (int trial = 0; trial < 3000; ++trial) {
    std::string text = trial % 2 == 0 ? original : resolve_config(random_config(random)).yaml();
    if (trial % 2 == 0) text.replace(text.find("*unknown"), 8, "d");
    for (auto edits = 1 + random() % 6; edits > 0 && !text.empty(); --edits) {
      const std::size_t at = random() % text.size();
      switch (random() % 5) {
        case 0: text[at] = kSpecial[random() % kSpecial.size()]; break;
        case 1: text.insert(at, 1, kSpecial[random() % kSpecial.size()]); break;
        case 2: text.erase(at, 1 + random() % 8); break;
        case 3: text.insert(at, text.substr(random() % text.size(), random() % 40)); break;
        default: text.resize(at); break;
      }
    }
    try {
      const auto config = load_config_text<Config>(text, "m.yaml", no_variables);
      const auto again = load_config_text<Config>(config.resolved_yaml, "again", no_variables);
      ASSERT_EQ(again.value.lists.names, config.value.lists.names) << text;
      ++loaded;
    } catch (const UserError& e) {
      ASSERT_NE(std::string(e.what()), "") << text;
      ASSERT_TRUE(is_valid_utf8(e.what())) << text;
      ++refused;
    }
  }
  EXPECT_GT(loaded, 100);
  EXPECT_GT(refused, 1000);
}

}  // namespace
}  // namespace vbon
