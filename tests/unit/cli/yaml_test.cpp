// Loading: what is accepted, and what every error says.
#include "vbon/cli/yaml.hpp"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <map>

#include "unit/cli/sample_config.hpp"
#include "unit/cli/scratch.hpp"

namespace vbon {
namespace {

using test::Config;
using test::Method;
using test::Scratch;
using testing::AllOf;
using testing::EndsWith;
using testing::HasSubstr;

EnvironmentLookup environment(std::map<std::string, std::string> values) {
  return [values = std::move(values)](const std::string& name) -> std::optional<std::string> {
    const auto found = values.find(name);
    if (found == values.end()) return std::nullopt;
    return found->second;
  };
}

LoadedConfig<Config> load_text(const std::string& yaml, std::map<std::string, std::string> variables = {}) {
  return load_config_text<Config>(yaml, "c.yaml", environment(std::move(variables)));
}

LoadedConfig<Config> load_overrides(std::vector<std::string> overrides) {
  return load_config<Config>({.overrides = std::move(overrides), .environment = environment({})});
}

template <class Call>
std::string error_of(Call call) {
  try {
    call();
  } catch (const UserError& e) {
    return e.what();
  }
  return "(no error)";
}

std::string text_error(const std::string& yaml) {
  return error_of([&] { load_text(yaml); });
}

TEST(Load, every_type_of_leaf) {
  const Config c = load_text(R"yaml(
model: {path: models/ref, dtype: "bf16"}
sampling:
  temperature: 2        # a whole number where a number is needed
  top_k: +40
  seed_offset: -9007199254740993
  greedy: yes
  method: ppo
  schedule:
    decay: 1e-4
lists:
  names: [a, "b c", 'true', 3]
  sizes: 7
  rates:
    - .5
    - 1.5e+3
  flags: [true, off]
  methods: vbon
  limit: ~
  seed: 12
  beta: none
  label: 'none'
  second_method: 'none'
  command: [python3, -c, "print(1)"]
  fixed: false
  roles: {rollout: 2, scorer: 1}
  token: abc
)yaml")
                       .value;
  EXPECT_EQ(c.model.path, "models/ref");
  EXPECT_EQ(c.model.dtype, "bf16");
  EXPECT_EQ(c.sampling.temperature, 2.0);
  EXPECT_EQ(c.sampling.top_k, 40);
  EXPECT_EQ(c.sampling.seed_offset, -9007199254740993);
  EXPECT_TRUE(c.sampling.greedy);
  EXPECT_EQ(c.sampling.method, Method::ppo);
  EXPECT_EQ(c.sampling.schedule.decay, 1e-4);
  EXPECT_EQ(c.sampling.schedule.warmup_steps, 10);
  EXPECT_EQ(c.lists.names, (std::vector<std::string>{"a", "b c", "true", "3"}));
  EXPECT_EQ(c.lists.sizes, std::vector<int>{7});
  EXPECT_EQ(c.lists.rates, (std::vector<double>{0.5, 1500.0}));
  EXPECT_EQ(c.lists.flags, (std::vector<bool>{true, false}));
  EXPECT_EQ(c.lists.methods, std::vector<Method>{Method::vbon});
  EXPECT_EQ(c.lists.limit, std::nullopt);
  EXPECT_EQ(c.lists.seed, 12);
  EXPECT_EQ(c.lists.beta, std::nullopt);
  EXPECT_EQ(c.lists.label, "none");
  EXPECT_EQ(c.lists.second_method, Method::none);
  EXPECT_EQ(c.lists.command, (std::vector<std::string>{"python3", "-c", "print(1)"}));
  EXPECT_EQ(c.lists.fixed, false);
  EXPECT_EQ(c.lists.roles.content, "{rollout: 2, scorer: 1}");
  EXPECT_EQ(c.lists.token, "abc");
}

TEST(Load, an_empty_text_and_empty_sections_are_the_defaults) {
  EXPECT_EQ(load_text("").value, Config{});
  EXPECT_EQ(load_text("# nothing\n").value, Config{});
  EXPECT_EQ(load_text("model:\nsampling: {}\n").value, Config{});
}

TEST(Load, a_block_map_reaches_a_text_value_as_flow_text) {
  EXPECT_EQ(load_text("lists:\n  roles:\n    rollout: 2\n    scorer: 1\n").value.lists.roles.content,
            "{rollout: 2, scorer: 1}");
  EXPECT_EQ(load_text("lists: {roles: [1, [2, x]]}").value.lists.roles.content, "[1, [2, x]]");
}

TEST(Load, anchors_work_within_limits) {
  const Config c = load_text("lists:\n  names: &n [a, b]\n  command: *n\n").value;
  EXPECT_EQ(c.lists.command, c.lists.names);
}

TEST(LoadError, an_unknown_key_names_file_line_and_nearest_key) {
  EXPECT_EQ(text_error("model:\n  path: x\nsampling:\n  temprature: 1\n"),
            "unknown key 'sampling.temprature' (c.yaml:4); did you mean 'sampling.temperature'?");
  EXPECT_EQ(text_error("sampling: {schedule: {warmup: 1}}"),
            "unknown key 'sampling.schedule.warmup' (c.yaml:1); did you mean 'sampling.schedule.warmup_steps'?");
  EXPECT_EQ(text_error("modle: {path: x}"), "unknown key 'modle' (c.yaml:1); did you mean 'model'?");
  // The right name in the wrong section.
  EXPECT_EQ(text_error("model: {beta: 1}"), "unknown key 'model.beta' (c.yaml:1); did you mean 'lists.beta'?");
  EXPECT_EQ(text_error("model: {qqqqqqqqqqqq: 1}"),
            "unknown key 'model.qqqqqqqqqqqq' (c.yaml:1); keys of 'model' are: path, dtype");
  EXPECT_EQ(text_error("zzzzzzzzzzzzz: 1"),
            "unknown key 'zzzzzzzzzzzzz' (c.yaml:1); sections are: model, sampling, lists");
  EXPECT_THAT(text_error("model: {<<: {path: x}}"), HasSubstr("'model.<<' (c.yaml:1); merge keys are not supported"));
}

TEST(LoadError, a_wrong_type_says_what_was_found_and_what_is_needed) {
  EXPECT_EQ(text_error("\nsampling: {temperature: warm}"),
            "'sampling.temperature' (c.yaml:2): needs a number, found 'warm'");
  EXPECT_EQ(text_error("sampling: {temperature: '1.0'}"),
            "'sampling.temperature' (c.yaml:1): needs a number, found the text '1.0'");
  EXPECT_EQ(text_error("sampling: {top_k: 1.5}"), "'sampling.top_k' (c.yaml:1): needs a whole number, found '1.5'");
  EXPECT_EQ(text_error("sampling: {greedy: 1}"), "'sampling.greedy' (c.yaml:1): needs true or false, found '1'");
  EXPECT_EQ(text_error("sampling: {top_k: [1, 2]}"),
            "'sampling.top_k' (c.yaml:1): needs a whole number, found a list of 2");
  EXPECT_EQ(text_error("sampling: {top_k: }"), "'sampling.top_k' (c.yaml:1): needs a whole number, found nothing");
  EXPECT_EQ(text_error("model: {path: {a: 1}}"), "'model.path' (c.yaml:1): needs text, found a map of keys");
  EXPECT_EQ(text_error("model: {path: }"),
            "'model.path' (c.yaml:1): needs text (\"\" for an empty one), found nothing");
  EXPECT_EQ(text_error("lists: {sizes: [1, x]}"),
            "'lists.sizes' (c.yaml:1): element 2: needs a whole number, found 'x'");
  EXPECT_EQ(text_error("lists: {sizes: }"),
            "'lists.sizes' (c.yaml:1): needs list of integer ([] for an empty one), found nothing");
  EXPECT_EQ(text_error("lists: {seed: soon}"), "'lists.seed' (c.yaml:1): needs a whole number, found 'soon'");
  EXPECT_EQ(text_error("sampling: 3"), "'sampling' (c.yaml:1) needs keys with values ('key: value'), found '3'");
  EXPECT_EQ(text_error("[1, 2]"), "the file (c.yaml:1) needs keys with values ('key: value'), found a list of 2");
  EXPECT_EQ(text_error("lists: {roles: bad one}"), "'lists.roles' (c.yaml:1): 'bad one' is no placement");
  EXPECT_THAT(text_error("model: {path: [" + std::string(500, 'x') + "]}"), testing::SizeIs(testing::Lt(120)));
  EXPECT_THAT(text_error("sampling: {top_k: " + std::string(500, 'x') + "}"), EndsWith("xxx…'"));
}

TEST(LoadError, numbers_out_of_range) {
  EXPECT_EQ(text_error("sampling: {top_k: 2147483648}"),
            "'sampling.top_k' (c.yaml:1): needs a whole number from -2147483648 to 2147483647, found '2147483648'");
  EXPECT_THAT(text_error("sampling: {seed_offset: 9223372036854775808}"), HasSubstr("to 9223372036854775807"));
  EXPECT_THAT(text_error("sampling: {temperature: 1e999}"), HasSubstr("needs a number that a double can hold"));
  for (const char* text : {".inf", "-.inf", ".nan", "inf", "nan", "-inf"})
    EXPECT_THAT(text_error(fmt::format("sampling: {{temperature: {}}}", text)),
                AllOf(HasSubstr("needs a finite number, found"), HasSubstr(text)));
}

TEST(LoadError, an_unknown_choice_lists_them_and_the_nearest) {
  EXPECT_EQ(text_error("sampling: {method: vbom}"),
            "'sampling.method' (c.yaml:1): needs one of vbon, ppo, none, found 'vbom'; did you mean 'vbon'?");
  EXPECT_EQ(text_error("sampling: {method: reinforce}"),
            "'sampling.method' (c.yaml:1): needs one of vbon, ppo, none, found 'reinforce'");
}

TEST(LoadError, duplicate_keys) {
  EXPECT_EQ(text_error("sampling:\n  top_k: 1\n  greedy: no\n  top_k: 2\n"),
            "the key 'top_k' is given twice (c.yaml:2 and c.yaml:4); keep one");
  EXPECT_EQ(text_error("model: {}\nmodel: {}\n"), "the key 'model' is given twice (c.yaml:1 and c.yaml:2); keep one");
}

TEST(LoadError, all_errors_are_reported_at_once_a_line_each) {
  EXPECT_EQ(text_error("model:\n  pth: x\nsampling:\n  top_k: few\n  method: p\n  greedy: no\n  greedy: no\n"),
            "the key 'greedy' is given twice (c.yaml:6 and c.yaml:7); keep one\n"
            "unknown key 'model.pth' (c.yaml:2); did you mean 'model.path'?\n"
            "'sampling.top_k' (c.yaml:4): needs a whole number, found 'few'\n"
            "'sampling.method' (c.yaml:5): needs one of vbon, ppo, none, found 'p'; did you mean 'ppo'?");
  std::string many = "model:\n";
  for (int i = 0; i < 70; ++i) many += fmt::format("  k{}: 1\n", i);
  EXPECT_THAT(text_error(many), EndsWith("\n… and 20 more"));
}

TEST(LoadError, text_that_is_no_yaml) {
  EXPECT_THAT(text_error("model:\n  path: [1, 2\n"), AllOf(HasSubstr("c.yaml:"), HasSubstr("not valid YAML")));
  EXPECT_THAT(text_error("model: {path: @x}"), HasSubstr("c.yaml:1: not valid YAML"));
  EXPECT_THAT(text_error("model: {path: *nobody}"), HasSubstr("c.yaml:1: not valid YAML"));
  EXPECT_THAT(text_error("a: 1\n---\nb: 2\n"), HasSubstr("a second document"));
  EXPECT_THAT(text_error("? [a, b]\n: 1\n"), HasSubstr("a key must be a word"));
  EXPECT_THAT(text_error("model: {path: !secret x}"), HasSubstr("the tag '!secret' is not supported"));
  EXPECT_THAT(text_error("model: {path: \"\\N\"}"), HasSubstr("an escape that is no character"));
  EXPECT_THAT(text_error("model: {path: \"a\\0b\"}"), HasSubstr("an escape that is no character"));
  EXPECT_THAT(text_error("model: \xFF"), HasSubstr("not valid UTF-8"));
  EXPECT_THAT(text_error("model: {}\nlists: \x04{}\n"), HasSubstr("c.yaml:2: a control character (byte 4)"));
}

TEST(LoadError, alias_bombs_and_huge_or_deep_texts_are_refused_quickly) {
  const auto start = std::chrono::steady_clock::now();
  std::string bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n";
  for (int i = 1; i < 12; ++i) {
    bomb += fmt::format("a{0}: &a{0} [", i);
    for (int k = 0; k < 10; ++k) bomb += fmt::format("{}*a{}", k == 0 ? "" : ", ", i - 1);
    bomb += "]\n";
  }
  EXPECT_THAT(text_error(bomb), HasSubstr("more than 100000 values"));
  std::string fat = "a: &a " + std::string(100'000, 'x') + "\nb: [";
  for (int k = 0; k < 1000; ++k) fat += "*a, ";
  EXPECT_THAT(text_error(fat + "]\n"), HasSubstr("of text (aliases counted"));
  EXPECT_THAT(text_error("a: &a [*a]"), HasSubstr("c.yaml:1"));
  EXPECT_THAT(text_error(std::string(kMaxYamlBytes + 1, '#')), HasSubstr("at most 1.0 MiB"));
  EXPECT_THAT(text_error(std::string(100'000, '[')), HasSubstr("nested deeper than 32 levels"));
  EXPECT_THAT(text_error(std::string(100'000, '{')), HasSubstr("c.yaml:1"));
  std::string block;
  for (int i = 0; i < 500; ++i) block += "- ";
  EXPECT_THAT(text_error(block + "x"), HasSubstr("nested deeper than 32 levels"));
  std::string deep_alias = "a: &a " + std::string(30, '[') + std::string(30, ']') + "\nb: [[[[*a]]]]\n";
  EXPECT_THAT(text_error(deep_alias), HasSubstr("c.yaml:2: nested deeper than 32 levels"));
  std::string wide = "model:\n";
  for (int i = 0; i < 5000; ++i) wide += fmt::format("  k{}: 1\n", i);
  EXPECT_THAT(text_error(wide), HasSubstr("more than 1000 keys in one map"));
  EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(5));
}

TEST(Overrides, win_over_the_file_and_fail_in_the_same_way) {
  const Scratch scratch;
  const auto file = scratch.write("c.yaml", "sampling: {temperature: 0.5, top_k: 3}\n");
  const auto loaded = load_config<Config>(
      {.file = file,
       .overrides = {"sampling.temperature=0.7", "lists.sizes=[4, 5]", "sampling.schedule={decay: 0.25}",
                     "lists.roles={rollout: 1}", "model.path=a=b"}});
  EXPECT_EQ(loaded.value.sampling.temperature, 0.7);
  EXPECT_EQ(loaded.value.sampling.top_k, 3);
  EXPECT_EQ(loaded.value.sampling.schedule.decay, 0.25);
  EXPECT_EQ(loaded.value.lists.sizes, (std::vector<int>{4, 5}));
  EXPECT_EQ(loaded.value.lists.roles.content, "{rollout: 1}");
  EXPECT_EQ(loaded.value.model.path, "a=b");

  const std::string errors = error_of([] {
    load_overrides({"sampling.temprature=1", "sampling.top_k=x", "nothing", "=3", "model.path=@x"});
  });
  EXPECT_THAT(errors,
              HasSubstr("unknown key 'sampling.temprature' (command line); did you mean 'sampling.temperature'?"));
  EXPECT_THAT(errors, HasSubstr("'sampling.top_k' (command line): needs a whole number, found 'x'"));
  EXPECT_THAT(errors, HasSubstr("'-s nothing': an override has the form section.key=value"));
  EXPECT_THAT(errors, HasSubstr("'-s =3': an override has the form section.key=value"));
  EXPECT_THAT(errors, HasSubstr("command line:1: not valid YAML"));
}

TEST(Overrides, a_bad_value_that_is_replaced_does_no_harm) {
  const Scratch scratch;
  const auto file = scratch.write("c.yaml", "model: {path: '${NOT_SET_ANYWHERE}'}\n");
  EXPECT_EQ(load_config<Config>({.file = file, .overrides = {"model.path=x"}, .environment = environment({})})
                .value.model.path,
            "x");
}

TEST(Include, lays_files_over_each_other_relative_to_the_including_one) {
  const Scratch scratch;
  scratch.write("shared/base.yaml",
                "include: deep/first.yaml\nsampling: {temperature: 0.2, top_k: 2}\nlists: {sizes: [9, 9]}\n");
  scratch.write("shared/deep/first.yaml", "model: {dtype: f16}\nsampling: {temperature: 0.1, greedy: true}\n");
  scratch.write("more.yaml", "lists: {limit: 5, roles: {rollout: 1, scorer: 1}}\n");
  const auto file = scratch.write("c.yaml",
                                  "sampling: {temperature: 0.3}\nlists: {sizes: [1], roles: {rollout: 2}}\ninclude: "
                                  "[shared/base.yaml, more.yaml]\n");
  const Config c = load_config<Config>({.file = file}).value;
  EXPECT_EQ(c.sampling.temperature, 0.3);
  EXPECT_EQ(c.sampling.top_k, 2);
  EXPECT_TRUE(c.sampling.greedy);
  EXPECT_EQ(c.model.dtype, "f16");
  EXPECT_EQ(c.lists.limit, 5);
  EXPECT_EQ(c.lists.sizes, std::vector<int>{1});
  EXPECT_EQ(c.lists.roles.content, "{rollout: 2}");
}

TEST(Include, the_same_file_twice_is_no_cycle) {
  const Scratch scratch;
  scratch.write("base.yaml", "sampling: {top_k: 2}\n");
  scratch.write("a.yaml", "include: base.yaml\n");
  const auto file = scratch.write("c.yaml", "include: [base.yaml, a.yaml]\n");
  EXPECT_EQ(load_config<Config>({.file = file}).value.sampling.top_k, 2);
}

TEST(IncludeError, a_cycle_names_its_chain) {
  const Scratch scratch;
  scratch.write("b.yaml", "include: sub/../c.yaml\n");
  scratch.write("c.yaml", "\ninclude: a.yaml\n");
  std::filesystem::create_directories(scratch / "sub");
  const auto file = scratch.write("a.yaml", "include: b.yaml\nsampling: {topk: 1}\n");
  const std::string error = error_of([&] { load_config<Config>({.file = file}); });
  EXPECT_THAT(error, HasSubstr("include files form a cycle: a.yaml -> b.yaml -> c.yaml -> a.yaml (included in "));
  EXPECT_THAT(error, HasSubstr("c.yaml:2); remove one include"));
  EXPECT_THAT(error, HasSubstr("unknown key 'sampling.topk'"));
  const auto self = scratch.write("self.yaml", "include: ./self.yaml\n");
  EXPECT_THAT(error_of([&] { load_config<Config>({.file = self}); }), HasSubstr("cycle: self.yaml -> self.yaml"));
}

TEST(IncludeError, missing_files_and_wrong_values_name_the_place) {
  const Scratch scratch;
  const auto file = scratch.write("c.yaml", "\ninclude: gone.yaml\n");
  EXPECT_THAT(
      error_of([&] { load_config<Config>({.file = file}); }),
      AllOf(HasSubstr("gone.yaml'"), HasSubstr("No such file"), HasSubstr("(included in "), HasSubstr("c.yaml:2)")));
  EXPECT_THAT(error_of([&] { load_config<Config>({.file = scratch / "none.yaml"}); }), HasSubstr("No such file"));
  EXPECT_THAT(error_of([&] { load_config<Config>({.file = scratch / ""}); }), HasSubstr("is a folder"));
  const auto wrong = scratch.write("w.yaml", "include: {a: b}\n");
  EXPECT_THAT(error_of([&] { load_config<Config>({.file = wrong}); }),
              AllOf(HasSubstr("'include' ("), HasSubstr("w.yaml:1): needs text, found a map of keys")));
  EXPECT_THAT(text_error("include: base.yaml\n"), HasSubstr("unknown key 'include'"));  // not from stored text
}

TEST(IncludeError, depth_and_number_of_files_are_limited) {
  const Scratch scratch;
  for (int i = 0; i < 40; ++i) scratch.write(fmt::format("d{}.yaml", i), fmt::format("include: d{}.yaml\n", i + 1));
  EXPECT_THAT(error_of([&] { load_config<Config>({.file = scratch / "d0.yaml"}); }),
              HasSubstr("too many include files"));
  scratch.write("w5.yaml", "model: {}\n");
  for (int i = 0; i < 5; ++i) {
    const std::string next = fmt::format("w{}.yaml", i + 1);
    scratch.write(fmt::format("w{}.yaml", i), fmt::format("include: [{0}, {0}, {0}, {0}, {0}, {0}, {0}, {0}]\n", next));
  }
  EXPECT_THAT(error_of([&] { load_config<Config>({.file = scratch / "w0.yaml"}); }),
              HasSubstr("too many include files"));
}

TEST(References, are_expanded_for_the_struct_and_kept_in_the_text) {
  const auto loaded = load_text(
      "model: {path: \"${ROOT}/models/${NAME:-small}\"}\n"
      "sampling:\n  top_k: ${K}\n  temperature: ${T:-0.5}\n"
      "lists: {names: [\"${ROOT}\", b], label: '$${ROOT}', limit: \"${LIMIT:-none}\"}\n",
      {{"ROOT", "/data"}, {"K", "17"}});
  EXPECT_EQ(loaded.value.model.path, "/data/models/small");
  EXPECT_EQ(loaded.value.sampling.top_k, 17);
  EXPECT_EQ(loaded.value.sampling.temperature, 0.5);
  EXPECT_EQ(loaded.value.lists.names, (std::vector<std::string>{"/data", "b"}));
  EXPECT_EQ(loaded.value.lists.label, "${ROOT}");
  EXPECT_EQ(loaded.value.lists.limit, std::nullopt);
  EXPECT_THAT(loaded.resolved_yaml, HasSubstr("  path: \"${ROOT}/models/${NAME:-small}\"\n"));
  EXPECT_THAT(loaded.resolved_yaml, HasSubstr("  top_k: \"${K}\"\n"));
  EXPECT_THAT(loaded.resolved_yaml, HasSubstr("  label: \"$${ROOT}\"\n"));
  EXPECT_THAT(loaded.resolved_yaml, testing::Not(HasSubstr("/data")));

  const auto again = load_text(loaded.resolved_yaml, {{"ROOT", "/data"}, {"K", "17"}});
  EXPECT_EQ(again.value, loaded.value);
  EXPECT_EQ(again.resolved_yaml, loaded.resolved_yaml);
  EXPECT_EQ(load_text(loaded.resolved_yaml, {{"ROOT", "/other"}, {"K", "1"}}).value.model.path, "/other/models/small");
}

TEST(References, errors_name_the_variable) {
  EXPECT_EQ(
      text_error("model: {path: \"${NOWHERE}\"}"),
      "'model.path' (c.yaml:1): the environment variable NOWHERE is not set; set it, or write ${NOWHERE:-default}");
  EXPECT_THAT(text_error("model: {path: \"${A B}\"}"),
              HasSubstr("'${A B}' is no reference to an environment variable"));
  EXPECT_THAT(text_error("model: {path: \"${}\"}"), HasSubstr("is no reference"));
  EXPECT_THAT(text_error("model: {path: \"x${OPEN\"}"), HasSubstr("that has no end '}'"));
  EXPECT_THAT(error_of([] {
                load_text("model: {path: \"${X}\"}", {{"X", "\xFF"}});
              }),
              HasSubstr("X is not valid UTF-8"));
  // What a variable holds is not looked at again.
  EXPECT_EQ(load_text("model: {path: \"${X}\"}", {{"X", "${Y}"}}).value.model.path, "${Y}");
}

TEST(References, the_process_environment_is_the_default) {
  ::setenv("VBON_TEST_REFERENCE", "from outside", 1);
  EXPECT_EQ(load_config<Config>({.overrides = {"model.path='${VBON_TEST_REFERENCE}'"}}).value.model.path,
            "from outside");
}

TEST(Secrets, are_in_no_text_and_in_no_message) {
  const auto loaded = load_text("lists: {token: hunter2}");
  EXPECT_EQ(loaded.value.lists.token, "hunter2");
  EXPECT_THAT(loaded.resolved_yaml, testing::Not(HasSubstr("token")));
  EXPECT_THAT(loaded.resolved_yaml, testing::Not(HasSubstr("hunter2")));
  EXPECT_EQ(text_error("lists: {token: [hunter2]}"),
            "'lists.token' (c.yaml:1): the value cannot be read (a secret key: it is not shown)");
  EXPECT_THAT(error_of([] { load_overrides({"lists.token={hunter2: 1}"}); }), testing::Not(HasSubstr("hunter2")));
}

TEST(Required, keys_without_a_value_are_named_with_their_meaning) {
  Config config;
  const std::vector<std::string> paths = {"model", "lists.seed", "lists.names"};
  EXPECT_EQ(missing_required(config, paths),
            (std::vector<std::string>{"'model.path' has to be set: folder of the reference model",
                                      "'lists.seed' has to be set: seed of all draws",
                                      "'lists.names' has to be set: some names"}));
  config.model.path = "x";
  config.lists.seed = 0;
  config.lists.names = {""};
  EXPECT_TRUE(missing_required(config, paths).empty());
  EXPECT_THROW(missing_required(config, std::vector<std::string>{"model.pth"}), InternalError);
}

struct Place {
  std::string pool;
  double temperature = 1;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.pool, {.name = "pool", .help = "its pool", .required = true});
    v(c.temperature, {.name = "temperature", .help = "of the draws"});
  }
};

struct Atlas {
  std::int64_t seed = 0;
  std::map<std::string, Place> places;
  std::string after;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.seed, {.name = "seed", .help = "of all draws"});
    v(c.places, {.name = "places", .help = "more of them, by name"});
    v(c.after, {.name = "after", .help = "a key behind the map"});
  }
};

TEST(SectionMaps, hold_the_sections_that_the_sources_name) {
  const auto loaded = load_config<Atlas>({.overrides = {"places={cold: {pool: a.h5, temperature: 0.5}, far_1: {}}",
                                                        "places.far_1.pool=b.h5", "places.cold.temperature=0.25"}});
  const std::map<std::string, Place>& places = loaded.value.places;
  ASSERT_EQ(places.size(), 2u);
  EXPECT_EQ(places.at("cold").pool, "a.h5");
  EXPECT_EQ(places.at("cold").temperature, 0.25);
  EXPECT_EQ(places.at("far_1").pool, "b.h5");
  EXPECT_EQ(places.at("far_1").temperature, 1.0);
  EXPECT_EQ(loaded.resolved_yaml,
            "seed: 0\nplaces:\n  cold:\n    pool: a.h5\n    temperature: 0.25\n  far_1:\n    pool: b.h5\n    "
            "temperature: 1.0\nafter: \"\"\n");
  const auto again = load_config_text<Atlas>(loaded.resolved_yaml, "c.yaml");
  EXPECT_EQ(again.resolved_yaml, loaded.resolved_yaml);
  EXPECT_TRUE(load_config<Atlas>({}).value.places.empty());
  EXPECT_EQ(
      missing_required(load_config_text<Atlas>("places: {x: }", "c.yaml").value, std::vector<std::string>{"places"}),
      std::vector<std::string>{"'places.x.pool' has to be set: its pool"});
}

TEST(SectionMaps, errors_name_the_section) {
  const auto error = [](const std::string& yaml) { return error_of([&] { load_config_text<Atlas>(yaml, "c.yaml"); }); };
  EXPECT_EQ(error("places: {cold: {pol: a}}"),
            "unknown key 'places.cold.pol' (c.yaml:1); did you mean 'places.cold.pool'?");
  EXPECT_EQ(error("places: {cold: {temperature: warm}}"),
            "'places.cold.temperature' (c.yaml:1): needs a number, found 'warm'");
  EXPECT_EQ(error("places: {a b: {}}"),
            "'a b' cannot name a section of places: letters, digits, _ and - can (c.yaml:1)");
  EXPECT_EQ(error("places: [cold]"), "'places' (c.yaml:1) needs keys with values ('key: value'), found a list of 1");
}

struct Twice {
  int a = 0;
  static void visit(auto&& v, auto& c) {
    v(c.a, {.name = "a"});
    v(c.a, {.name = "a"});
  }
};

struct AlwaysSet {
  int a = 0;
  static void visit(auto&& v, auto& c) { v(c.a, {.name = "a", .required = true}); }
};

TEST(FieldLists, mistakes_in_them_are_our_bugs) {
  Twice twice;
  AlwaysSet always_set;
  EXPECT_THROW(bind_fields(twice), InternalError);
  EXPECT_THROW(bind_fields(always_set), InternalError);
}

}  // namespace
}  // namespace vbon
