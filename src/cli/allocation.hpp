// When the batch system ends this job.
#pragma once

#include <optional>
#include <string>

namespace vbon::cli {

// Seconds since 1970: VBON_END_TIME (for tests, and for batch systems other than Slurm), else what Slurm says. Slurm's
// newer versions put it into the environment; older ones are asked once, where `may_ask` (one rank does), for ten
// seconds at most. nullopt: not in an allocation, or it has no end. UserError for a VBON_END_TIME that is no time.
std::optional<double> allocation_end(bool may_ask);

// `text` as squeue prints a time with SLURM_TIME_FORMAT=%s; nullopt: it is none ("N/A", "NONE").
std::optional<double> time_in(const std::string& text);

}  // namespace vbon::cli
