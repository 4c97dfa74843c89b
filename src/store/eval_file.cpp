#include "vbon/store/eval_file.hpp"

#include <algorithm>
#include <cmath>

#include "vbon/base/error.hpp"
#include "vbon/store/h5_commit.hpp"

namespace vbon {
namespace {

// The exact KL of a token is never negative; sums of floats may miss 0 by their rounding.
constexpr float kKlSlack = 1e-3f;

// The curve's columns with their names, for writing and reading alike.
template <class Self, class Visit>
void for_each_column(Self& curve, Visit&& visit) {
  visit("N", curve.n);
  visit("kl", curve.kl);
  visit("win", curve.win);
  visit("reward", curve.reward);
  visit("se", curve.se);
}

bool is_share(double value) { return value >= 0 && value <= 1; }

void validate_eval(const EvalFile& eval, const std::string& where) {
  require(eval.block.num_prompts() >= 1, "{} has no prompts", where);
  validate(eval.block, eval.header.eos_ids, where);
  require(eval.kl.size() == eval.block.samples.length.size(), "{}: sample/kl has another size than the samples", where);
  require(std::all_of(eval.kl.begin(), eval.kl.end(), [](float kl) { return std::isfinite(kl) && kl >= -kKlSlack; }),
          "{}: a KL is negative or not finite", where);
  require(eval.win.size() == eval.block.prompts.id.size() && std::all_of(eval.win.begin(), eval.win.end(), is_share),
          "{}: win is not one share in [0, 1] a prompt", where);
  const BonCurve& bon = eval.bon;
  for_each_column(bon, [&](const char* name, const std::vector<double>& values) {
    require(values.size() == bon.n.size(), "{}: bon/{} has another length than bon/N", where, name);
  });
  require(std::all_of(bon.n.begin(), bon.n.end(), [](double n) { return n >= 1; }), "{}: bon/N holds an N < 1", where);
}

}  // namespace

std::string write_eval(const fs::path& path, const EvalFile& eval) {
  validate_eval(eval, "the evaluation for '" + path.string() + "'");
  const EvalHeader& header = eval.header;
  const std::int64_t p = eval.block.num_prompts(), k = eval.block.samples.num_samples;
  return write_h5_atomically(path, [&](H5File& file) {
    write_provenance(file, kEvalFormat, kEvalSchema, header.provenance);
    file.write_attribute("evaluation", header.evaluation);
    file.write_attribute("method", header.method);
    file.write_attribute("N", header.n);
    file.write_attribute("beta", header.beta);
    file.write_attribute("training_seed", header.training_seed);
    file.write_attribute("evaluation_seed", header.evaluation_seed);
    file.write_attribute("bootstrap_seed", header.bootstrap_seed);
    file.write_attribute("temperature", header.temperature);
    file.write_attribute("checkpoint_sha256", header.checkpoint_sha256);
    file.write_attribute("checkpoint_step", header.checkpoint_step);
    file.write_attribute("eos_ids", header.eos_ids);
    write_sample_block(file, eval.block);
    file.write("sample/kl", {p, k}, eval.kl);
    file.write("win", {p}, eval.win);
    for_each_column(eval.bon, [&](const char* name, const std::vector<double>& values) {
      file.write(fmt::format("bon/{}", name), {static_cast<std::int64_t>(values.size())}, values);
    });
    H5Group summary = file.create_group("summary");
    for (const auto& [name, value] : eval.summary) summary.write_attribute(name, value);
  });
}

EvalFile read_eval(const fs::path& path) {
  const H5File file = open_h5(path, kEvalFormat, kEvalSchema);
  EvalFile eval;
  EvalHeader& header = eval.header;
  header.provenance = read_provenance(file);
  if (file.has_attribute("evaluation")) header.evaluation = file.attribute<std::string>("evaluation");
  header.method = file.attribute<std::string>("method");
  header.n = file.attribute<double>("N");
  header.beta = file.attribute<double>("beta");
  header.training_seed = file.attribute<std::int64_t>("training_seed");
  header.evaluation_seed = file.attribute<std::int64_t>("evaluation_seed");
  header.bootstrap_seed = file.attribute<std::int64_t>("bootstrap_seed");
  header.temperature = file.attribute<double>("temperature");
  header.checkpoint_sha256 = file.attribute<std::string>("checkpoint_sha256");
  header.checkpoint_step = file.attribute<std::int64_t>("checkpoint_step");
  header.eos_ids = file.attribute<std::vector<std::int64_t>>("eos_ids");
  eval.block = read_sample_block(file);
  const std::int64_t p = eval.block.num_prompts(), k = eval.block.samples.num_samples;
  eval.kl = file.read<float>("sample/kl", {p, k});
  eval.win = file.read<double>("win", {p});
  for_each_column(eval.bon, [&](const char* name, std::vector<double>& values) {
    values = file.read<double>(fmt::format("bon/{}", name), {kAnySize});
  });
  const H5Group summary = file.group("summary");
  for (const std::string& name : summary.attribute_names()) eval.summary[name] = summary.attribute<double>(name);
  validate_eval(eval, "'" + path.string() + "'");
  eval.content_sha256 =
      file.has_attribute("content_sha256") ? file.attribute<std::string>("content_sha256") : h5_content_sha256(file);
  return eval;
}

}  // namespace vbon
