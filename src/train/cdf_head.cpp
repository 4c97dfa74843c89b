#include "vbon/train/cdf_head.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <numeric>

#include "train/problems.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/json.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/store/safetensors.hpp"

namespace vbon {
namespace {

namespace fs = std::filesystem;
std::size_t idx(std::int64_t i) { return static_cast<std::size_t>(i); }
constexpr std::string_view kModelType = "vbon_cdf";
constexpr std::int64_t kMarginalUpdates = 300;
constexpr double kMarginalRate = 0.05;
constexpr std::int64_t kMeasureEvery = 10;  // updates

// What the weights multiply: the embedding standardised, and of about length 1.
std::vector<double> features(const CdfHead& head, std::span<const double> embedding) {
  std::vector<double> out;
  const double length = std::sqrt(static_cast<double>(head.width()));
  for (std::size_t d = 0; d < embedding.size(); ++d)
    out.push_back((embedding[d] - head.shift[d]) / head.spread[d] / length);
  return out;
}

// [3K] of one prompt: bias + weight times its features.
std::vector<double> parameters(const CdfHead& head, std::span<const double> features) {
  std::vector<double> out = head.bias;
  for (std::size_t row = 0; row < out.size(); ++row)
    out[row] = std::inner_product(features.begin(), features.end(),
                                  head.weight.begin() + static_cast<std::ptrdiff_t>(row * features.size()), out[row]);
  return out;
}

// In units, not rewards.
LogisticMixture mixture_of(const CdfHead& head, std::span<const double> parameters) {
  const auto k = idx(head.components);
  LogisticMixture m;
  const double highest = *std::max_element(parameters.begin(), parameters.begin() + head.components);
  double sum = 0;
  for (std::size_t j = 0; j < k; ++j) sum += std::exp(parameters[j] - highest);
  for (std::size_t j = 0; j < k; ++j) {
    m.log_weight.push_back(parameters[j] - highest - std::log(sum));
    m.mean.push_back(parameters[k + j]);
    m.scale.push_back(head.least_scale + std::exp(std::clamp(parameters[2 * k + j], -30.0, 30.0)));
  }
  return m;
}

class Adam {
 public:
  Adam(std::size_t size, double rate, double decay) : rate_(rate), decay_(decay), first_(size), second_(size) {}
  // The first `decayed` values decay.
  void step(std::span<double> values, std::span<const double> gradient, std::size_t decayed) {
    ++steps_;
    const double one = 1 - std::pow(kBeta1, steps_), two = 1 - std::pow(kBeta2, steps_);
    for (std::size_t i = 0; i < values.size(); ++i) {
      first_[i] = kBeta1 * first_[i] + (1 - kBeta1) * gradient[i];
      second_[i] = kBeta2 * second_[i] + (1 - kBeta2) * gradient[i] * gradient[i];
      if (i < decayed) values[i] *= 1 - rate_ * decay_;
      values[i] -= rate_ * (first_[i] / one) / (std::sqrt(second_[i] / two) + 1e-8);
    }
  }

 private:
  static constexpr double kBeta1 = 0.9, kBeta2 = 0.99;
  double rate_, decay_;
  std::vector<double> first_, second_;
  int steps_ = 0;
};

// Data as training sees it.
struct Standardised {
  const CdfData& data;
  std::vector<std::vector<double>> features;  // [P][D]

  Standardised(const CdfHead& head, const CdfData& of) : data(of) {
    for (std::int64_t p = 0; p < of.num_prompts; ++p) features.push_back(vbon::features(head, of.embedding(p)));
  }
};

enum class Trained { bias, all };

// Mean -log density over the rewards of `prompts` in units; its gradient by [weight, bias], or by the bias alone.
double nll_and_gradient(const CdfHead& head, const Standardised& of, std::span<const std::int64_t> prompts,
                        std::vector<double>* gradient, Trained trained = Trained::all) {
  const std::size_t rows = head.bias.size(), width = idx(head.width());
  const std::size_t weights = trained == Trained::all ? rows * width : 0;
  const double share = 1.0 / (static_cast<double>(prompts.size()) * static_cast<double>(of.data.num_samples()));
  double nll = 0;
  if (gradient != nullptr) gradient->assign(weights + rows, 0.0);
  for (const std::int64_t p : prompts) {
    const std::vector<double>& features = of.features[idx(p)];
    const LogisticMixture mixture = mixture_of(head, parameters(head, features));
    std::vector<double> by(rows);
    for (const float reward : of.data.rewards_of(p)) {
      const double z = (reward - head.centre) / head.unit;
      nll -= share * (gradient != nullptr ? add_log_density_gradient(mixture, z, -share, by) : mixture.log_density(z));
    }
    if (gradient == nullptr) continue;
    for (std::size_t k = 0; k < idx(head.components); ++k)
      by[2 * idx(head.components) + k] *= mixture.scale[k] - head.least_scale;  // by the log scale
    for (std::size_t row = 0; row < rows; ++row) {
      (*gradient)[weights + row] += by[row];
      if (trained == Trained::bias) continue;
      double* into = gradient->data() + row * width;
      for (std::size_t d = 0; d < width; ++d) into[d] += by[row] * features[d];
    }
  }
  return nll;
}

CdfHead blank_head(const CdfData& data, const AmortisedSection& config, double round) {
  CdfHead head{.components = config.components, .round = round};
  const std::int64_t width = data.width(), prompts = data.num_prompts;
  head.shift.assign(idx(width), 0.0);
  head.spread.assign(idx(width), 0.0);
  for (std::int64_t p = 0; p < prompts; ++p)
    for (std::size_t d = 0; d < idx(width); ++d) head.shift[d] += data.embedding(p)[d] / static_cast<double>(prompts);
  for (std::int64_t p = 0; p < prompts; ++p)
    for (std::size_t d = 0; d < idx(width); ++d)
      head.spread[d] += std::pow(data.embedding(p)[d] - head.shift[d], 2) / static_cast<double>(prompts);
  for (double& s : head.spread) s = std::max(1e-6, std::sqrt(s));
  std::vector<float> sorted(data.rewards.begin(), data.rewards.end());
  std::sort(sorted.begin(), sorted.end());
  const auto count = static_cast<double>(sorted.size());
  head.centre = std::accumulate(sorted.begin(), sorted.end(), 0.0) / count;
  double square = 0;
  for (const float r : sorted) square += (r - head.centre) * (r - head.centre) / count;
  require(square > 0, "all rewards of the pool are the same: there is no F to learn");
  head.unit = std::sqrt(square);
  head.least_scale = std::max(1e-3, round / head.unit);
  head.weight.assign(idx(3 * config.components * width), 0.0);
  head.bias.assign(idx(3 * config.components), 0.0);
  for (std::int64_t k = 0; k < config.components; ++k) {
    const double place = (static_cast<double>(k) + 0.5) / static_cast<double>(config.components);
    head.bias[idx(config.components + k)] =
        (sorted[static_cast<std::size_t>(place * (count - 1))] - head.centre) / head.unit;
    head.bias[idx(2 * config.components + k)] = std::log(0.4);
  }
  return head;
}

// Adam; `measure` is called with the number of updates done.
template <class Measure>
void train_head(CdfHead& head, const Standardised& data, std::span<const std::int64_t> prompts, std::int64_t batch,
                std::int64_t updates, Trained trained, double rate, double decay, std::uint64_t seed,
                Measure&& measure) {
  const std::size_t weights = trained == Trained::all ? head.weight.size() : 0;
  std::vector<double> values(head.weight.begin(), head.weight.begin() + static_cast<std::ptrdiff_t>(weights)), gradient;
  values.insert(values.end(), head.bias.begin(), head.bias.end());
  Adam adam(values.size(), rate, decay);
  const auto count = std::ssize(prompts), an_update = std::min<std::int64_t>(batch, count);
  const std::int64_t an_epoch = count / an_update;
  std::vector<std::int64_t> order;
  for (std::int64_t update = 0; update < updates; ++update) {
    if (update % an_epoch == 0)
      order = permutation(RandomStream(seed, Purpose::data_order, 1, update / an_epoch), count);
    std::vector<std::int64_t> members;
    for (std::int64_t i = 0; i < an_update; ++i)
      members.push_back(prompts[idx(order[idx(update % an_epoch * an_update + i)])]);
    nll_and_gradient(head, data, members, &gradient, trained);
    adam.step(values, gradient, weights);
    std::copy(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(weights), head.weight.begin());
    std::copy(values.begin() + static_cast<std::ptrdiff_t>(weights), values.end(), head.bias.begin());
    measure(update + 1);
  }
}

}  // namespace

std::vector<std::string> problems(const AmortisedSection& c) {
  Problems p;
  p.unless(!c.weight || (std::isfinite(*c.weight) && *c.weight > 0),
           "amortised.weight is {}; it must be positive (none: the head is not used)", c.weight.value_or(0));
  p.unless(!c.weight || !c.path.empty(), "amortised.weight needs a head: set amortised.path");
  p.unless(c.components >= 1 && c.components <= 64, "amortised.components is {}; it must lie in 1 … 64", c.components);
  p.unless(c.updates >= 1, "amortised.updates is {}; at least 1 is needed", c.updates);
  p.unless(c.batch >= 1, "amortised.batch is {}; at least 1 is needed", c.batch);
  p.unless(c.learning_rate > 0, "amortised.learning_rate is {}; it must be positive", c.learning_rate);
  p.unless(c.weight_decay >= 0, "amortised.weight_decay is {}; it must not be negative", c.weight_decay);
  p.unless(c.heldout > 0 && c.heldout < 1, "amortised.heldout is {}; it must lie between 0 and 1", c.heldout);
  return p.take();
}

LogisticMixture CdfHead::mixture(std::span<const double> embedding) const {
  check(std::ssize(embedding) == width(), "an embedding of the head's width");
  LogisticMixture m = mixture_of(*this, parameters(*this, features(*this, embedding)));
  for (double& mean : m.mean) mean = centre + unit * mean;
  for (double& scale : m.scale) scale *= unit;
  return m;
}

std::span<const double> CdfData::embedding(std::int64_t prompt) const {
  return std::span(embeddings).subspan(idx(prompt * width()), idx(width()));
}
std::span<const float> CdfData::rewards_of(std::int64_t prompt) const {
  return rewards.subspan(idx(prompt * num_samples()), idx(num_samples()));
}

double mean_nll(const CdfHead& head, const CdfData& data) {
  std::vector<std::int64_t> all(idx(data.num_prompts));
  std::iota(all.begin(), all.end(), 0);
  return nll_and_gradient(head, Standardised(head, data), all, nullptr);
}

CdfFit fit_cdf_head(const CdfData& data, const AmortisedSection& config, double round, std::uint64_t seed) {
  constexpr std::int64_t kFewest = 5;
  require(data.num_prompts >= kFewest, "the pool has {} prompts; the head needs at least {}", data.num_prompts,
          kFewest);
  const std::vector<std::int64_t> order = permutation(RandomStream(seed, Purpose::subset, 1), data.num_prompts);
  const std::int64_t held = std::clamp<std::int64_t>(
      std::llround(config.heldout * static_cast<double>(data.num_prompts)), 1, data.num_prompts - 2);
  const std::span judges = std::span(order).first(idx(held)), rest = std::span(order).subspan(idx(held));
  const auto nothing = [](std::int64_t) {};

  const CdfHead blank = blank_head(data, config, round);
  const Standardised of(blank, data);
  const auto marginal = [&](CdfHead& head, std::span<const std::int64_t> prompts) {
    train_head(head, of, prompts, config.batch, kMarginalUpdates, Trained::bias, kMarginalRate, 0, seed, nothing);
  };
  const auto by_prompt = [&](CdfHead& head, std::span<const std::int64_t> prompts, std::int64_t updates,
                             auto&& measure) {
    train_head(head, of, prompts, config.batch, updates, Trained::all, config.learning_rate, config.weight_decay, seed,
               measure);
  };
  CdfHead trial = blank;
  marginal(trial, rest);
  CdfFit fit{.nll_marginal = nll_and_gradient(trial, of, judges, nullptr)};
  fit.nll_prompt = fit.nll_marginal;
  by_prompt(trial, rest, config.updates, [&](std::int64_t done) {
    if (done % kMeasureEvery != 0 && done != config.updates) return;
    const double nll = nll_and_gradient(trial, of, judges, nullptr);
    if (nll >= fit.nll_prompt) return;
    fit.nll_prompt = nll;
    fit.updates = done;
  });

  // Again with every prompt, for as long.
  fit.head = blank;
  marginal(fit.head, order);
  if (fit.updates > 0) by_prompt(fit.head, order, fit.updates, nothing);
  return fit;
}

void save_cdf_head(const CdfHead& head, const fs::path& folder) {
  static_assert(std::endian::native == std::endian::little, "safetensors are little endian");
  const std::int64_t rows = 3 * head.components;
  const std::vector<TensorView> tensors = {view_of_doubles("weight", {rows, head.width()}, head.weight),
                                           view_of_doubles("bias", {rows}, head.bias),
                                           view_of_doubles("embedding.shift", {head.width()}, head.shift),
                                           view_of_doubles("embedding.spread", {head.width()}, head.spread)};
  make_folders(folder);
  write_safetensors(folder / "model.safetensors", tensors);
  const nlohmann::json config = {{"model_type", kModelType}, {"components", head.components},
                                 {"width", head.width()},    {"centre", head.centre},
                                 {"unit", head.unit},        {"least_scale", head.least_scale},
                                 {"round", head.round},      {"reference_sha256", head.reference_sha256},
                                 {"made", head.made}};
  write_file_atomically(folder / "config.json", config.dump(2) + "\n");
}

CdfHead load_cdf_head(const fs::path& folder) {
  const fs::path path = folder / "config.json";
  require(fs::exists(path), "'{}' holds no head; make it with `vbon amortise`", folder.string());
  const nlohmann::json config = parse_json(read_file(path, 1 << 20), "'" + path.string() + "'");
  require(config.is_object() && config.value("model_type", nlohmann::json()) == kModelType,
          "'{}' describes no amortised F (model_type '{}')", path.string(), kModelType);
  CdfHead head;
  try {
    for (const char* name : {"components", "width"})
      require(config.at(name).is_number_integer(), "'{}' is damaged: '{}' is no whole number", path.string(), name);
    head.components = config.at("components");
    head.centre = config.at("centre");
    head.unit = config.at("unit");
    head.least_scale = config.at("least_scale");
    head.round = config.at("round");
    head.reference_sha256 = config.at("reference_sha256");
    head.made = config.at("made");
    const std::int64_t width = config.at("width");
    require(head.components >= 1 && head.components <= 64 && width >= 1 && width <= 1 << 20 && head.unit > 0 &&
                head.least_scale > 0 && head.round >= 0,
            "'{}' is damaged: a number is out of its range", path.string());
    const SafeTensors file = SafeTensors::open_folder(folder);
    const std::int64_t rows = 3 * head.components;
    head.weight = read_doubles(file, "weight", std::array{rows, width});
    head.bias = read_doubles(file, "bias", std::array{rows});
    head.shift = read_doubles(file, "embedding.shift", std::array{width});
    head.spread = read_doubles(file, "embedding.spread", std::array{width});
  } catch (const nlohmann::json::exception& e) {
    throw UserError("'{}' is damaged: {}", path.string(), e.what());
  }
  return head;
}

}  // namespace vbon
