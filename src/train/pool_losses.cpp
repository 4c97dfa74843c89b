#include "vbon/train/pool_losses.hpp"

#include "vbon/base/error.hpp"

namespace vbon {

std::unique_ptr<PoolLoss> make_pool_loss(Method method, const Settings& settings, const Pool& pool,
                                         const LogFTable& table, std::span<const MoreTable> more) {
  switch (method) {
    case Method::regression: return make_regression_loss(settings, pool, table, more);
    case Method::bon_sft: return make_bon_sft_loss(settings, pool);
    case Method::dpo:
    case Method::ipo:
    case Method::slic: return make_preference_loss(method, settings, pool);
    case Method::bonbon: return make_bonbon_loss(settings, pool);
    case Method::vbon:
    case Method::ppo:
    case Method::jeffreys:
    case Method::bond:
    case Method::jbond: break;
  }
  throw InternalError("an online method has no loss on the pool");
}

OptimizerConfig pool_optimizer(Method method, const Settings& settings) {
  OptimizerConfig optimizer = settings.optimizer;
  if (method == Method::regression) {
    optimizer.learning_rate = settings.regression.learning_rate.value_or(optimizer.learning_rate);
    optimizer.warmup = settings.regression.warmup.value_or(optimizer.warmup);
  }
  return optimizer;
}

}  // namespace vbon
