// The offline methods as losses on the pool. All of them in nats, by sums over a response's tokens.
#pragma once

#include <memory>
#include <span>

#include "vbon/objective/log_f.hpp"
#include "vbon/store/pool.hpp"
#include "vbon/train/pool_step.hpp"
#include "vbon/train/reward_ranks.hpp"
#include "vbon/train/settings.hpp"

namespace vbon {

// The loss of an offline method; pool and table must stay. `more`: tables of rewards beside the main one. UserError
// where the pool cannot serve it (no prefixes, too few samples, no pair with a preference).
std::unique_ptr<PoolLoss> make_pool_loss(Method method, const Settings& settings, const Pool& pool,
                                         const LogFTable& table, std::span<const MoreTable> more = {});

// Pool samples of an update, as configured; a small pool may have fewer.
std::int64_t pool_samples(const Settings& settings, Method method);

// Section optimizer, with what the regression has of its own.
OptimizerConfig pool_optimizer(Method method, const Settings& settings);

// Regression (QRPO's loss with w_N for a reward): log pi/pi_ref is fitted to log w_N; regression.hpp has the targets.
std::unique_ptr<PoolLoss> make_regression_loss(const Settings& settings, const Pool& pool, const LogFTable& table,
                                               std::span<const MoreTable> more = {});
// InfoNCA: w_N says how probable each of a few samples of a prompt is to be the best (objective/infonca.hpp).
std::unique_ptr<PoolLoss> make_infonca_loss(const Settings& settings, const Pool& pool, const LogFTable& table,
                                            std::span<const MoreTable> more = {});
// BoN-SFT: -log pi of the best of N, by all samples with their probability of being it, or by draws.
std::unique_ptr<PoolLoss> make_bon_sft_loss(const Settings& settings, const Pool& pool);
// DPO, IPO and SLiC on pairs of the pool's samples (objective/preference.hpp).
std::unique_ptr<PoolLoss> make_preference_loss(Method method, const Settings& settings, const Pool& pool);
// BoNBoN on the best and the worst of N samples (objective/bonbon.hpp).
std::unique_ptr<PoolLoss> make_bonbon_loss(const Settings& settings, const Pool& pool);

}  // namespace vbon
