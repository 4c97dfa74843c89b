// A configuration with every type of leaf, for the tests of loading, dumping and help.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "vbon/base/error.hpp"
#include "vbon/base/fields.hpp"

namespace vbon::test {

enum class Method { vbon, ppo, none };
inline constexpr std::array<std::pair<Method, std::string_view>, 3> kMethods = {
    {{Method::vbon, "vbon"}, {Method::ppo, "ppo"}, {Method::none, "none"}}};
inline std::span<const std::pair<Method, std::string_view>> enum_names(Method) { return kMethods; }

// Text or a flow map; refuses what begins with "bad".
struct Roles {
  static constexpr std::string_view kSyntax = "auto | {rollout: R, scorer: S}";
  std::string content = "auto";
  static Roles parse(std::string_view text) {
    if (text.starts_with("bad")) throw UserError("'{}' is no placement", text);
    return {.content = std::string(text)};
  }
  std::string text() const { return content; }
  bool operator==(const Roles&) const = default;
};

struct Model {
  std::string path;
  std::string dtype = "f32";
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.path, {.name = "path", .help = "folder of the reference model", .required = true});
    v(c.dtype, {.name = "dtype", .help = "type of the weights when loaded"});
  }
  bool operator==(const Model&) const = default;
};

struct Schedule {
  int warmup_steps = 10;
  double decay = 0.5;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.warmup_steps, {.name = "warmup_steps", .help = "steps until the full learning rate", .unit = "steps"});
    v(c.decay, {.name = "decay", .help = "share left at the end"});
  }
  bool operator==(const Schedule&) const = default;
};

struct Sampling {
  double temperature = 1.0;
  int top_k = 0;
  std::int64_t seed_offset = 0;
  bool greedy = false;
  Method method = Method::vbon;
  Schedule schedule;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.temperature, {.name = "temperature", .help = "softmax temperature, > 0"});
    v(c.top_k, {.name = "top_k", .help = "only the k likeliest tokens; 0: all", .unit = "tokens"});
    v(c.seed_offset, {.name = "seed_offset", .help = "added to the seed"});
    v(c.greedy, {.name = "greedy", .help = "take the likeliest token"});
    v(c.method, {.name = "method", .help = "what is trained"});
    v(c.schedule, {.name = "schedule", .help = "learning rate over time"});
  }
  bool operator==(const Sampling&) const = default;
};

struct Lists {
  std::vector<std::string> names;
  std::vector<int> sizes = {1, 2};
  std::vector<double> rates;
  std::vector<bool> flags;
  std::vector<Method> methods;
  std::optional<int> limit;
  std::optional<std::int64_t> seed;
  std::optional<double> beta;
  std::optional<std::string> label;
  std::optional<Method> second_method;
  std::optional<std::vector<std::string>> command;
  std::optional<bool> fixed;
  Roles roles;
  std::string token;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.names, {.name = "names", .help = "some names"});
    v(c.sizes, {.name = "sizes", .help = "some sizes"});
    v(c.rates, {.name = "rates", .help = "some rates", .unit = "1/s"});
    v(c.flags, {.name = "flags", .help = "some flags"});
    v(c.methods, {.name = "methods", .help = "some methods"});
    v(c.limit, {.name = "limit", .help = "at most this many"});
    v(c.seed, {.name = "seed", .help = "seed of all draws", .required = true});
    v(c.beta, {.name = "beta", .help = "weight of the KL", .unit = "nats"});
    v(c.label, {.name = "label", .help = "a label"});
    v(c.second_method, {.name = "second_method", .help = "another method"});
    v(c.command, {.name = "command", .help = "a program with its arguments"});
    v(c.fixed, {.name = "fixed", .help = "in fixed order"});
    v(c.roles, {.name = "roles", .help = "what ranks do"});
    v(c.token, {.name = "token", .help = "access token", .secret = true});
  }
  bool operator==(const Lists&) const = default;
};

struct Config {
  Model model;
  Sampling sampling;
  Lists lists;
  template <class V, class Self>
  static void visit(V&& v, Self& c) {
    v(c.model, {.name = "model", .help = "the reference model"});
    v(c.sampling, {.name = "sampling", .help = "how responses are drawn"});
    v(c.lists, {.name = "lists", .help = "everything else"});
  }
  bool operator==(const Config&) const = default;
};

}  // namespace vbon::test
