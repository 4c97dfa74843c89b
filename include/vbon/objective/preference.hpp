// Losses on a pair of responses to one prompt, the first preferred: functions of the margin
//
//   margin = log pi/pi_ref(chosen) - log pi/pi_ref(rejected), sums over tokens, in nats,
//
// with their slopes d loss / d margin, all that a backward pass needs.
//
//   dpo   -(1-s) log sigmoid(beta margin) - s log sigmoid(-beta margin), s the label smoothing (Rafailov et al. 2023)
//   ipo   (margin - 1/(2 beta))^2                                        (Azar et al. 2023)
//   slic  max(0, 1 - beta margin)                                        (Zhao et al. 2023, without its SFT term)
//
// Optimum over all policies, pairs of reference samples: dpo with labels drawn from sigmoid(r1 - r2): pi_ref
// exp(r/beta) / Z; with labels from the reward's order there is none, margins grow without end. ipo with such labels:
// pi_ref exp(F/beta) / Z, F against a reference sample, ties half. slic has an optimum of its own.
#pragma once

namespace vbon {

struct PairLoss {
  double loss = 0;
  double slope = 0;
};

PairLoss dpo_loss(double margin, double beta, double label_smoothing);
PairLoss ipo_loss(double margin, double beta);
PairLoss slic_loss(double margin, double beta);

}  // namespace vbon
