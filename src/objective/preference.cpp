#include "vbon/objective/preference.hpp"

#include "vbon/objective/logistic.hpp"

namespace vbon {

PairLoss dpo_loss(double margin, double beta, double label_smoothing) {
  const double x = beta * margin, s = label_smoothing;
  return {.loss = -(1 - s) * log_sigmoid(x) - s * log_sigmoid(-x),
          .slope = beta * (s * sigmoid(x) - (1 - s) * sigmoid(-x))};
}

PairLoss ipo_loss(double margin, double beta) {
  const double residual = margin - 1 / (2 * beta);
  return {.loss = residual * residual, .slope = 2 * residual};
}

PairLoss slic_loss(double margin, double beta) {
  const double short_of = 1 - beta * margin;
  return short_of > 0 ? PairLoss{.loss = short_of, .slope = -beta} : PairLoss{};
}

}  // namespace vbon
