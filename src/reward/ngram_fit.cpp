// Fitting n-gram models: sums for naive Bayes, Newton's method with conjugate gradients for logistic regression.
#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "vbon/base/error.hpp"
#include "vbon/base/log.hpp"
#include "vbon/objective/logistic.hpp"
#include "vbon/reward/ngram.hpp"

namespace vbon {
namespace {

using Vector = std::vector<double>;

// Texts as the places of their n-grams, in one row after the other.
struct Presence {
  std::vector<std::size_t> places;
  std::vector<std::size_t> offset = {0};  // [texts + 1]
  Vector label, weight;                   // [texts]
  std::size_t num_texts() const { return label.size(); }
  std::span<const std::size_t> row(std::size_t i) const {
    return std::span(places).subspan(offset[i], offset[i + 1] - offset[i]);
  }
};

double dot(const Vector& a, const Vector& b) { return std::inner_product(a.begin(), a.end(), b.begin(), 0.0); }

Presence read_presence(std::span<const LabelRecord> texts, const NgramConfig& config, NgramModel& model) {
  std::vector<std::vector<std::string>> rows;
  std::map<std::string, std::int64_t> counts;
  for (const LabelRecord& record : texts) {
    rows.push_back(ngrams_of(record.text, config.order, config.prefix));
    for (const std::string& ngram : rows.back()) ++counts[ngram];
  }
  for (const auto& [ngram, count] : counts)
    if (count >= config.min_count) model.vocabulary.emplace(ngram, model.vocabulary.size());
  require(!model.vocabulary.empty(),
          "no word n-gram occurs in {} texts or more; lower ngram.min_count or give more text", config.min_count);
  Presence data;
  for (std::size_t i = 0; i < texts.size(); ++i) {
    for (const std::string& ngram : rows[i])
      if (const auto found = model.vocabulary.find(ngram); found != model.vocabulary.end())
        data.places.push_back(found->second);
    data.offset.push_back(data.places.size());
    data.label.push_back(texts[i].value);
    data.weight.push_back(texts[i].weight);
  }
  return data;
}

void fit_naive_bayes(NgramModel& model, const Presence& data, double smoothing) {
  const std::size_t size = model.vocabulary.size();
  Vector good(size, smoothing), bad(size, smoothing);
  double texts_good = 0, texts_bad = 0;
  for (std::size_t i = 0; i < data.num_texts(); ++i) {
    const double one = data.weight[i] * data.label[i], zero = data.weight[i] * (1.0 - data.label[i]);
    texts_good += one;
    texts_bad += zero;
    for (const std::size_t place : data.row(i)) {
      good[place] += one;
      bad[place] += zero;
    }
  }
  const double all_good = std::accumulate(good.begin(), good.end(), 0.0);
  const double all_bad = std::accumulate(bad.begin(), bad.end(), 0.0);
  model.weights.resize(size);
  for (std::size_t k = 0; k < size; ++k) model.weights[k] = std::log(good[k] / all_good) - std::log(bad[k] / all_bad);
  model.bias = std::log(texts_good) - std::log(texts_bad);
}

// The objective at x = (weights, bias), with what its gradient and curvature need.
class Logistic {
 public:
  Logistic(const Presence& data, std::size_t size, double l2) : data_(data), size_(size), l2_(l2) {}

  double value(const Vector& x) {
    double sum = 0.5 * l2_ * std::inner_product(x.begin(), x.end() - 1, x.begin(), 0.0);
    margin_.resize(data_.num_texts());
    for (std::size_t i = 0; i < data_.num_texts(); ++i) {
      margin_[i] = row_dot(x, i);
      sum += data_.weight[i] * (softplus(margin_[i]) - data_.label[i] * margin_[i]);
    }
    return sum;
  }
  // At the x of the last value().
  Vector gradient(const Vector& x) const {
    Vector g = penalty(x);
    for (std::size_t i = 0; i < data_.num_texts(); ++i)
      add_row(g, i, data_.weight[i] * (sigmoid(margin_[i]) - data_.label[i]));
    return g;
  }
  Vector curvature_times(const Vector& v) const {
    Vector out = penalty(v);
    out[size_] += 1e-12 * v[size_];  // the bias alone has no penalty, and saturated texts no curvature
    for (std::size_t i = 0; i < data_.num_texts(); ++i) {
      const double p = sigmoid(margin_[i]);
      add_row(out, i, data_.weight[i] * p * (1.0 - p) * row_dot(v, i));
    }
    return out;
  }

 private:
  Vector penalty(const Vector& x) const {
    Vector out(size_ + 1, 0.0);
    for (std::size_t k = 0; k < size_; ++k) out[k] = l2_ * x[k];
    return out;
  }
  double row_dot(const Vector& x, std::size_t i) const {
    double sum = x[size_];
    for (const std::size_t place : data_.row(i)) sum += x[place];
    return sum;
  }
  void add_row(Vector& out, std::size_t i, double factor) const {
    out[size_] += factor;
    for (const std::size_t place : data_.row(i)) out[place] += factor;
  }

  const Presence& data_;
  std::size_t size_;
  double l2_;
  Vector margin_;
};

// Solves curvature * d = -gradient to a share of the gradient's norm that shrinks with it.
Vector newton_direction(const Logistic& problem, const Vector& gradient) {
  Vector d(gradient.size(), 0.0), r(gradient.size()), p;
  for (std::size_t k = 0; k < r.size(); ++k) r[k] = -gradient[k];
  p = r;
  double rr = dot(r, r);
  const double wanted = std::min(0.25, std::sqrt(std::sqrt(rr))) * std::sqrt(rr);
  for (int round = 0; round < 500 && std::sqrt(rr) > wanted; ++round) {
    const Vector hp = problem.curvature_times(p);
    const double step = rr / dot(p, hp);
    for (std::size_t k = 0; k < d.size(); ++k) {
      d[k] += step * p[k];
      r[k] -= step * hp[k];
    }
    const double next = dot(r, r);
    for (std::size_t k = 0; k < p.size(); ++k) p[k] = r[k] + next / rr * p[k];
    rr = next;
  }
  return d;
}

void fit_logistic(NgramModel& model, const Presence& data, double l2) {
  const std::size_t size = model.vocabulary.size();
  Logistic problem(data, size, l2);
  Vector x(size + 1, 0.0);
  double value = problem.value(x);
  double scale = 0;
  for (const double w : data.weight) scale += w;
  bool converged = false;
  for (int round = 0; round < 200 && !converged; ++round) {
    const Vector g = problem.gradient(x);
    converged = std::sqrt(dot(g, g)) <= 1e-9 * scale;
    if (converged) break;
    const Vector d = newton_direction(problem, g);
    const double slope = dot(g, d);
    double step = 1.0;
    Vector next(x.size());
    for (;; step *= 0.5) {
      for (std::size_t k = 0; k < x.size(); ++k) next[k] = x[k] + step * d[k];
      const double there = problem.value(next);
      if (there <= value + 1e-4 * step * slope || step < 1e-10) {
        converged = step < 1e-10;  // rounding is all that is left
        value = there;
        break;
      }
    }
    x = next;
  }
  if (!converged) log::warn("the n-gram regression has not converged; a larger ngram.l2 helps");
  model.bias = x.back();
  x.pop_back();
  model.weights = std::move(x);
}

}  // namespace

NgramModel fit_ngram(std::span<const LabelRecord> texts, const NgramConfig& config) {
  double good = 0, bad = 0;
  for (const LabelRecord& record : texts) {
    require(record.value >= 0 && record.value <= 1, "n-gram models learn labels in [0, 1], and one is {}",
            record.value);
    good += record.weight * record.value;
    bad += record.weight * (1.0 - record.value);
  }
  require(good > 0 && bad > 0, "all labelled texts are of one class; n-gram models need texts of both");
  NgramModel model{.order = config.order, .prefix = config.prefix};
  const Presence data = read_presence(texts, config, model);
  if (config.model == NgramKind::naive_bayes) fit_naive_bayes(model, data, config.smoothing);
  else fit_logistic(model, data, config.l2);
  return model;
}

}  // namespace vbon
