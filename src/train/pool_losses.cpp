#include "vbon/train/pool_losses.hpp"

#include <algorithm>
#include <array>

#include "vbon/base/error.hpp"

namespace vbon {
namespace {

struct Source {
  const Settings& settings;
  const Pool& pool;
  const LogFTable& table;
  std::span<const MoreTable> more;
};

// An offline method: the samples that an update takes as it is configured, and its loss.
struct OfflineMethod {
  Method method;
  std::int64_t (*samples)(const Settings&);
  std::unique_ptr<PoolLoss> (*loss)(const Source&);
};

std::int64_t of_pairs(const Settings& s) { return 2 * s.preference.batch; }

template <Method method>
std::unique_ptr<PoolLoss> preference(const Source& in) {
  return make_preference_loss(method, in.settings, in.pool);
}

constexpr auto kOffline = std::to_array<OfflineMethod>({
    {Method::regression, [](const Settings& s) { return s.regression.batch; },
     [](const Source& in) { return make_regression_loss(in.settings, in.pool, in.table, in.more); }},
    {Method::infonca, [](const Settings& s) { return s.infonca.batch; },
     [](const Source& in) { return make_infonca_loss(in.settings, in.pool, in.table, in.more); }},
    {Method::bon_sft, [](const Settings& s) { return s.bon_sft.batch; },
     [](const Source& in) { return make_bon_sft_loss(in.settings, in.pool); }},
    {Method::dpo, of_pairs, preference<Method::dpo>},
    {Method::ipo, of_pairs, preference<Method::ipo>},
    {Method::slic, of_pairs, preference<Method::slic>},
    {Method::bonbon, [](const Settings& s) { return 2 * s.bonbon.batch; },
     [](const Source& in) { return make_bonbon_loss(in.settings, in.pool); }},
});

const OfflineMethod& offline(Method method) {
  const auto* found = std::ranges::find(kOffline, method, &OfflineMethod::method);
  check(found != kOffline.end(), "an online method has no loss on the pool");
  return *found;
}

}  // namespace

std::unique_ptr<PoolLoss> make_pool_loss(Method method, const Settings& settings, const Pool& pool,
                                         const LogFTable& table, std::span<const MoreTable> more) {
  return offline(method).loss({.settings = settings, .pool = pool, .table = table, .more = more});
}

std::int64_t pool_samples(const Settings& settings, Method method) { return offline(method).samples(settings); }

OptimizerConfig pool_optimizer(Method method, const Settings& settings) {
  OptimizerConfig optimizer = settings.optimizer;
  if (method == Method::regression) {
    optimizer.learning_rate = settings.regression.learning_rate.value_or(optimizer.learning_rate);
    optimizer.warmup = settings.regression.warmup.value_or(optimizer.warmup);
  }
  return optimizer;
}

}  // namespace vbon
