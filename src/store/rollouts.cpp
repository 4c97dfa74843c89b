#include "vbon/store/rollouts.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "vbon/base/error.hpp"
#include "vbon/store/h5_commit.hpp"

namespace vbon {
namespace {

std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

// Columns without which a file of this stage means nothing; the others may be unmeasured.
bool is_needed(std::string_view name, RolloutStage column, RolloutStage stage) {
  return column == RolloutStage::sampled || (name == "reward" && stage >= RolloutStage::scored);
}

void validate_tokens(const RolloutBatch& batch, std::int64_t row, const std::string& where) {
  const auto refuse_unless = [&](bool condition, const char* what) {
    require(condition, "{}: sequence {}: {}", where, row, what);
  };
  const std::int64_t t = batch.max_new_tokens;
  const std::int32_t length = batch.length[index(row)];
  refuse_unless(length >= 1 && length <= t, "its length is not in [1, T]");
  const auto tokens = std::span(batch.tokens).subspan(index(row * t), index(t));
  for (std::int64_t i = 0; i < t; ++i)
    refuse_unless(i < length ? tokens[index(i)] >= 0 : tokens[index(i)] == -1,
                  "a token before its end is negative, or one after it is not -1");
  refuse_unless(batch.finished[index(row)] <= 1 && batch.source[index(row)] <= 1, "a flag is neither 0 nor 1");
  refuse_unless(batch.finished[index(row)] == 1 || length == t, "it is neither finished nor cut at T");
}

// Numbers up to the end are finite or all unmeasured; behind it all are NaN.
void validate_numbers(const std::vector<float>& values, const RolloutBatch& batch, Per per, bool needed,
                      const std::string& what) {
  const std::int64_t width = batch.width(per);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t row = i / index(width);
    const bool inside = per != Per::token || i % index(width) < index(batch.length[row]);
    const bool good = inside ? !std::isinf(values[i]) && !(needed && std::isnan(values[i])) : std::isnan(values[i]);
    require(good, "{} of sequence {} is {} at position {}", what, row, values[i], i % index(width));
  }
}

void validate_trunk(const RolloutBatch& batch, RolloutStage stage, const std::string& where) {
  const CarriedTrunk& trunk = batch.trunk;
  if (trunk.rows.empty() && trunk.values.empty()) return;
  require(stage != RolloutStage::learned, "{}: a step's file carries no rows of the trunk", where);
  require(std::ssize(trunk.rows) == batch.num_sequences(), "{}: {} sequences have rows of the trunk, {} are there",
          where, trunk.rows.size(), batch.num_sequences());
  for (std::size_t i = 0; i < trunk.rows.size(); ++i)
    require(trunk.rows[i] == 0 || trunk.rows[i] >= batch.length[i] - 1, "{}: sequence {} has {} tokens, {} rows", where,
            i, batch.length[i], trunk.rows[i]);
  const std::int64_t sum = trunk.num_rows();
  require(sum == 0 ? trunk.values.empty() : !trunk.values.empty() && std::ssize(trunk.values) % sum == 0,
          "{}: {} numbers are no {} rows of the trunk", where, trunk.values.size(), sum);
  require(std::all_of(trunk.values.begin(), trunk.values.end(), [](float x) { return std::isfinite(x); }),
          "{}: the trunk's rows hold numbers that are not finite", where);
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return false;
  if constexpr (std::is_floating_point_v<T>)
    return std::equal(a.begin(), a.end(), b.begin(),
                      [](T x, T y) { return (std::isnan(x) && std::isnan(y)) || std::memcmp(&x, &y, sizeof x) == 0; });
  else return a == b;
}

template <class T>
constexpr T unmeasured() {
  return std::is_floating_point_v<T> ? std::numeric_limits<T>::quiet_NaN() : T{};
}

}  // namespace

std::string_view name_of(RolloutStage stage) {
  switch (stage) {
    case RolloutStage::sampled: return "sampled";
    case RolloutStage::scored: return "scored";
    case RolloutStage::learned: break;
  }
  return "learned";
}

void validate(const RolloutBatch& batch, RolloutStage stage, const std::string& where) {
  const std::int64_t b = batch.num_sequences();
  require(b >= 1 && batch.max_new_tokens >= 1, "{} holds no sequences", where);
  RolloutBatch::visit(
      [&](const char* name, const auto& values, RolloutStage column, Per per) {
        const bool needed = is_needed(name, column, stage);
        require(values.size() == index(num_elements({b, batch.width(per)}, where)) || (values.empty() && !needed),
                "{}: '{}' has {} values where {} sequences need {}", where, name, values.size(), b,
                b * batch.width(per));
      },
      batch);
  for (std::int64_t row = 0; row < b; ++row) validate_tokens(batch, row, where);
  RolloutBatch::visit(
      [&](const char* name, const auto& values, RolloutStage column, Per per) {
        if constexpr (std::is_same_v<typename std::decay_t<decltype(values)>::value_type, float>)
          validate_numbers(values, batch, per, is_needed(name, column, stage), fmt::format("{}: '{}'", where, name));
      },
      batch);
  validate_trunk(batch, stage, where);
}

RolloutBatch of_source(const RolloutBatch& batch, RolloutSource source) {
  RolloutBatch some;
  some.max_new_tokens = batch.max_new_tokens;
  some.num_more_rewards = batch.num_more_rewards;
  std::vector<const void*> all;  // the batch's columns, in visiting order
  RolloutBatch::visit([&](const char*, const auto& values, RolloutStage, Per) { all.push_back(&values); }, batch);
  std::size_t column = 0;
  RolloutBatch::visit(
      [&](const char*, auto& values, RolloutStage, Per per) {
        const auto& from = *static_cast<const std::decay_t<decltype(values)>*>(all[column++]);
        if (from.empty()) return;
        const auto width = batch.width(per);
        for (std::int64_t i = 0; i < batch.num_sequences(); ++i)
          if (batch.source[static_cast<std::size_t>(i)] == static_cast<std::uint8_t>(source))
            values.insert(values.end(), from.begin() + i * width, from.begin() + (i + 1) * width);
      },
      some);
  const CarriedTrunk& trunk = batch.trunk;
  const std::int64_t width = trunk.width();
  std::int64_t begin = 0;
  for (std::size_t i = 0; i < trunk.rows.size(); ++i) {
    const std::int64_t end = begin + trunk.rows[i] * width;
    if (batch.source[i] == static_cast<std::uint8_t>(source)) {
      some.trunk.rows.push_back(trunk.rows[i]);
      some.trunk.values.insert(some.trunk.values.end(), trunk.values.begin() + begin, trunk.values.begin() + end);
    }
    begin = end;
  }
  if (some.trunk.values.empty()) some.trunk = {};
  return some;
}

void add_missing_columns(RolloutBatch& batch, const RolloutBatch& like) {
  std::vector<bool> there;
  RolloutBatch::visit([&](const char*, const auto& values, RolloutStage, Per) { there.push_back(!values.empty()); },
                      like);
  std::size_t column = 0;
  RolloutBatch::visit(
      [&](const char*, auto& values, RolloutStage, Per per) {
        if (!there[column++] || !values.empty()) return;
        using Value = typename std::decay_t<decltype(values)>::value_type;
        Value blank{};
        if constexpr (std::is_floating_point_v<Value>) blank = std::numeric_limits<Value>::quiet_NaN();
        values.assign(static_cast<std::size_t>(batch.num_sequences() * batch.width(per)), blank);
      },
      batch);
}

RolloutBatch concatenate(std::span<const RolloutBatch> batches) {
  RolloutBatch all;
  for (const RolloutBatch& batch : batches) {
    const std::size_t rows_before = all.prompt_id.size();
    check(rows_before == 0 ||
              (all.max_new_tokens == batch.max_new_tokens && all.num_more_rewards == batch.num_more_rewards),
          "chunks of a step have one length limit and the same rewards");
    all.max_new_tokens = batch.max_new_tokens;
    all.num_more_rewards = batch.num_more_rewards;
    std::vector<const void*> more;  // the batch's columns, in visiting order
    RolloutBatch::visit([&](const char*, const auto& values, RolloutStage, Per) { more.push_back(&values); }, batch);
    std::size_t column = 0;
    RolloutBatch::visit(
        [&](const char*, auto& values, RolloutStage, Per) {
          const auto& added = *static_cast<const std::decay_t<decltype(values)>*>(more[column++]);
          check(rows_before == 0 || values.empty() == added.empty(), "a column is measured in all chunks or in none");
          values.insert(values.end(), added.begin(), added.end());
        },
        all);
    // Where some carry rows, the others have 0 of them.
    CarriedTrunk& trunk = all.trunk;
    if (trunk.rows.empty() && batch.trunk.rows.empty()) continue;
    trunk.rows.resize(rows_before);
    trunk.rows.insert(trunk.rows.end(), batch.trunk.rows.begin(), batch.trunk.rows.end());
    trunk.rows.resize(all.prompt_id.size());
    trunk.values.insert(trunk.values.end(), batch.trunk.values.begin(), batch.trunk.values.end());
  }
  return all;
}

void pack(const RolloutBatch& batch, std::vector<std::byte>& bytes) {
  const auto add = [&bytes](const void* data, std::size_t size) {
    const auto* const begin = static_cast<const std::byte*>(data);
    bytes.insert(bytes.end(), begin, begin + size);
  };
  add(&batch.max_new_tokens, sizeof batch.max_new_tokens);
  add(&batch.num_more_rewards, sizeof batch.num_more_rewards);
  const auto add_column = [&](const auto& values) {
    const std::uint64_t size = values.size();
    add(&size, sizeof size);
    add(values.data(), values.size() * sizeof(values[0]));
  };
  RolloutBatch::visit([&](const char*, const auto& values, RolloutStage, Per) { add_column(values); }, batch);
  add_column(batch.trunk.rows);
  add_column(batch.trunk.values);
}

RolloutBatch unpack(std::span<const std::byte>& bytes) {
  const auto take = [&bytes](void* data, std::size_t size) {
    check(size <= bytes.size(), "a packed batch is as long as it says");
    if (size > 0) std::memcpy(data, bytes.data(), size);
    bytes = bytes.subspan(size);
  };
  RolloutBatch batch;
  take(&batch.max_new_tokens, sizeof batch.max_new_tokens);
  take(&batch.num_more_rewards, sizeof batch.num_more_rewards);
  const auto take_column = [&](auto& values) {
    std::uint64_t size = 0;
    take(&size, sizeof size);
    check(size <= bytes.size() / sizeof(values[0]), "a packed batch is as long as it says");
    values.resize(size);
    take(values.data(), values.size() * sizeof(values[0]));
  };
  RolloutBatch::visit([&](const char*, auto& values, RolloutStage, Per) { take_column(values); }, batch);
  take_column(batch.trunk.rows);
  take_column(batch.trunk.values);
  return batch;
}

std::string first_difference(const RolloutBatch& a, const RolloutBatch& b) {
  std::vector<const void*> others;
  RolloutBatch::visit([&](const char*, const auto& values, RolloutStage, Per) { others.push_back(&values); }, b);
  std::string difference;
  std::size_t column = 0;
  RolloutBatch::visit(
      [&](const char* name, const auto& values, RolloutStage, Per) {
        const auto& other = *static_cast<const std::decay_t<decltype(values)>*>(others[column++]);
        if (difference.empty() && std::string_view(name) != "attempt" && !same_bits(values, other)) difference = name;
      },
      a);
  if (difference.empty() && (a.trunk.rows != b.trunk.rows || !same_bits(a.trunk.values, b.trunk.values)))
    difference = "trunk";
  return difference;
}

std::string write_rollouts(const fs::path& path, RolloutStage stage, const RolloutHeader& header,
                           const RolloutBatch& batch) {
  validate(batch, stage, "the rollouts for '" + path.string() + "'");
  const bool whole = stage == RolloutStage::learned;
  return write_h5_atomically(path, [&](H5File& file) {
    write_provenance(file, whole ? kRolloutsFormat : kRolloutChunkFormat, kRolloutsSchema, header.provenance);
    file.write_attribute("step", header.step);
    file.write_attribute("max_new_tokens", batch.max_new_tokens);
    if (batch.num_more_rewards > 0) file.write_attribute("num_more_rewards", batch.num_more_rewards);
    if (!whole) {
      file.write_attribute("stage", std::string(name_of(stage)));
      file.write_attribute("chunk", header.chunk);
      file.write_attribute("num_chunks", header.num_chunks);
    }
    RolloutBatch::visit(
        [&](const char* name, const auto& values, RolloutStage, Per per) {
          using T = typename std::decay_t<decltype(values)>::value_type;
          if (values.empty() && (!whole || batch.width(per) == 0)) return;
          const std::int64_t b = batch.num_sequences();
          const Shape shape = per == Per::sequence ? Shape{b} : Shape{b, batch.width(per)};
          file.write(name, shape,
                     values.empty() ? std::vector<T>(index(b * batch.width(per)), unmeasured<T>()) : values);
        },
        batch);
    if (batch.trunk.values.empty()) return;
    file.write("trunk_rows", {batch.num_sequences()}, batch.trunk.rows);
    file.write("trunk", {batch.trunk.num_rows(), batch.trunk.width()}, batch.trunk.values);
  });
}

Rollouts read_rollouts(const fs::path& path, RolloutStage stage) {
  const bool whole = stage == RolloutStage::learned;
  const H5File file = open_h5(path, whole ? kRolloutsFormat : kRolloutChunkFormat, kRolloutsSchema,
                              whole ? H5Trust::any : H5Trust::ours);
  Rollouts rollouts;
  rollouts.header.provenance = read_provenance(file);
  rollouts.header.step = file.attribute<std::int64_t>("step");
  const std::string where = "'" + path.string() + "'";
  if (!whole) {
    require(file.attribute<std::string>("stage") == name_of(stage), "{} is no {} chunk", where, name_of(stage));
    rollouts.header.chunk = file.attribute<std::int64_t>("chunk");
    rollouts.header.num_chunks = file.attribute<std::int64_t>("num_chunks");
  }
  const std::int64_t t = rollouts.batch.max_new_tokens = file.attribute<std::int64_t>("max_new_tokens");
  require(t >= 1, "{}: max_new_tokens is {}", where, t);
  if (file.has_attribute("num_more_rewards"))
    rollouts.batch.num_more_rewards = file.attribute<std::int64_t>("num_more_rewards");
  const std::int64_t b = file.dataset("prompt_id", H5Type::int64, {kAnySize}).num_rows();
  RolloutBatch::visit(
      [&](const char* name, auto& values, RolloutStage column, Per per) {
        using T = typename std::decay_t<decltype(values)>::value_type;
        const std::int64_t width = rollouts.batch.width(per);
        if (width == 0 || (!whole && !is_needed(name, column, stage) && !file.has(name))) return;
        values = file.read<T>(name, per == Per::sequence ? Shape{b} : Shape{b, width});
      },
      rollouts.batch);
  if (!whole && file.has("trunk_rows")) {
    rollouts.batch.trunk.rows = file.read<std::int32_t>("trunk_rows", {b});
    rollouts.batch.trunk.values = file.read<float>("trunk", {kAnySize, kAnySize});
  }
  validate(rollouts.batch, stage, where);
  rollouts.content_sha256 =
      file.has_attribute("content_sha256") ? file.attribute<std::string>("content_sha256") : h5_content_sha256(file);
  return rollouts;
}

}  // namespace vbon
