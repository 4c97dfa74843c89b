#include <array>
#include <cmath>
#include <limits>
#include <variant>

#include "fuzz/readers.hpp"
#include "unit/store/examples.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/store/h5_commit.hpp"
#include "vbon/store/metrics.hpp"
#include "vbon/store/pool_parts.hpp"
#include "vbon/store/rollout_files.hpp"

namespace vbon::fuzz {
namespace {

using Values = std::variant<std::vector<std::int32_t>, std::vector<std::int64_t>, std::vector<std::uint8_t>,
                            std::vector<float>, std::vector<double>, std::vector<std::string>>;

struct Dataset {
  std::string name;
  Shape shape;
  Values values;
};

// A file in memory, to be changed where no bytes of HDF5's own are.
struct Content {
  std::map<std::string, std::map<std::string, H5Attribute>> attributes;  // of groups, "" the root
  std::vector<Dataset> datasets;
};

Values read_values(const H5Dataset& dataset) {
  switch (dataset.type()) {
    case H5Type::int32: return dataset.read<std::int32_t>();
    case H5Type::int64: return dataset.read<std::int64_t>();
    case H5Type::uint8: return dataset.read<std::uint8_t>();
    case H5Type::float32: return dataset.read<float>();
    case H5Type::float64: return dataset.read<double>();
    case H5Type::text: break;
  }
  return dataset.read_text();
}

Content read_content(const fs::path& path) {
  const H5File file = H5File::open(path);
  Content content;
  const auto attributes = [&](const H5Group& group, const std::string& name) {
    for (const std::string& attribute : group.attribute_names())
      content.attributes[name][attribute] = group.attribute(attribute);
  };
  attributes(file, "");
  for (const std::string& name : file.members())
    if (file.has_group(name)) attributes(file.group(name), name);
  for (const std::string& name : file.dataset_paths()) {
    const H5Dataset dataset = file.dataset(name);
    content.datasets.push_back({name, dataset.shape(), read_values(dataset)});
  }
  return content;
}

void write_content(H5File& file, const Content& content) {
  for (const Dataset& dataset : content.datasets)
    std::visit(
        [&]<class T>(const std::vector<T>& values) {
          if constexpr (std::is_same_v<T, std::string>) {
            file.create_dataset(dataset.name, H5Type::text, dataset.shape).write_text(0, values);
          } else {
            file.write(dataset.name, dataset.shape, values);
          }
        },
        dataset.values);
  for (const auto& [group, attributes] : content.attributes)
    for (const auto& [name, value] : attributes) {
      if (group.empty()) file.write_attribute(name, value);
      else (file.has_group(group) ? file.group(group) : file.create_group(group)).write_attribute(name, value);
    }
}

template <class T>
T odd_number(Random& random) {
  if constexpr (std::is_floating_point_v<T>) {
    const std::array<T, 8> numbers = {0,
                                      -1,
                                      1,
                                      std::numeric_limits<T>::infinity(),
                                      -std::numeric_limits<T>::infinity(),
                                      std::numeric_limits<T>::quiet_NaN(),
                                      std::numeric_limits<T>::max(),
                                      std::numeric_limits<T>::denorm_min()};
    return random.any_of(numbers);
  } else {
    const std::array<T, 7> numbers = {
        0, 1, static_cast<T>(-1), static_cast<T>(-2), 5, std::numeric_limits<T>::max(), std::numeric_limits<T>::min()};
    return random.any_of(numbers);
  }
}

H5Attribute odd_attribute(Random& random) {
  switch (random.below(5)) {
    case 0: return random.any_of(std::array<std::string, 4>{"", "x", "vbon.pool", std::string(3000, 'a')});
    case 1: return odd_number<std::int64_t>(random);
    case 2: return odd_number<double>(random);
    case 3: return odd_number<std::uint8_t>(random);
    default: return std::vector<std::int64_t>(random.below(9), odd_number<std::int64_t>(random));
  }
}

void fit(Dataset& dataset) {  // as many values as the shape says
  const auto count = static_cast<std::size_t>(num_elements(dataset.shape, dataset.name));
  std::visit([&](auto& values) { values.resize(count); }, dataset.values);
}

void change_dataset(Dataset& dataset, Random& random) {
  switch (random.below(5)) {
    case 0:
      if (!dataset.shape.empty())
        dataset.shape[random.below(dataset.shape.size())] = static_cast<std::int64_t>(random.below(12));
      break;
    case 1:
      if (random.one_in(2)) dataset.shape.push_back(static_cast<std::int64_t>(random.below(4)));
      else if (!dataset.shape.empty()) dataset.shape.pop_back();
      break;
    case 2:
      dataset.values = random.one_in(2) ? Values(std::vector<std::int64_t>(1)) : Values(std::vector<float>(1));
      break;
    default:
      std::visit(
          [&]<class T>(std::vector<T>& values) {
            if (values.empty()) return;
            for (std::size_t k = random.one_in(3) ? values.size() : 1; k > 0; --k) {
              T& value = values[random.below(values.size())];
              if constexpr (std::is_same_v<T, std::string>)
                value += random.any_of(std::array<std::string, 3>{"x", "\xC3\xA9", std::string(1000, 'y')});
              else value = odd_number<T>(random);
            }
          },
          dataset.values);
  }
  fit(dataset);
}

void change(Content& content, Random& random) {
  if (random.one_in(3)) {
    auto group = content.attributes.begin();
    std::advance(group, static_cast<std::ptrdiff_t>(random.below(content.attributes.size())));
    if (group->second.empty()) return;
    auto attribute = group->second.begin();
    std::advance(attribute, static_cast<std::ptrdiff_t>(random.below(group->second.size())));
    if (random.one_in(3)) group->second.erase(attribute);
    else attribute->second = odd_attribute(random);
    return;
  }
  Dataset& dataset = content.datasets[random.below(content.datasets.size())];
  if (random.one_in(6)) dataset.name += "x";
  else if (random.one_in(8)) std::swap(dataset.name, content.datasets[random.below(content.datasets.size())].name);
  else change_dataset(dataset, random);
}

// Changes what a file of ours says and signs it again, as if its writer had been wrong.
std::function<void(Files&, Random&)> change_content(const fs::path& scratch) {
  return [path = scratch / "changed.h5"](Files& files, Random& random) {
    std::string& bytes = files.begin()->second;
    write_files(path.parent_path(), {{"changed.h5", bytes}});
    Content content = read_content(path);
    do change(content, random);
    while (random.one_in(3));
    content.attributes[""].erase("content_sha256");
    try {
      write_h5_atomically(path, [&](H5File& file) { write_content(file, content); });
    } catch (const UserError&) {  // what our writer refuses, it cannot have written
    }
    bytes = read_file(path);
  };
}

// The same content as another program would have written it: without our guard and, if so, our checksum.
Files foreign(const fs::path& path, bool checksum) {
  Content content = read_content(path);
  if (!checksum) content.attributes[""].erase("content_sha256");
  H5File file = H5File::create("foreign");
  write_content(file, content);
  const auto image = file.image().subspan(static_cast<std::size_t>(kH5FreeBytes));
  return {{"a.h5", std::string(reinterpret_cast<const char*>(image.data()), image.size())}};
}

void use_pool(const fs::path& folder) {
  const Pool pool = read_pool(folder / "a.h5", SampleParts::with_trunk);
  read_pool(folder / "a.h5", SampleParts::without_samples);
  for (std::int64_t row = 0; row < pool.block.num_prompts(); ++row) {
    pool.table(row);
    pool.block.prompts.tokens_of(row);
    for (std::int64_t m = 0; m < pool.block.samples.num_samples; ++m) pool.block.samples.tokens_of(row, m);
  }
  PoolIndex(pool.block.prompts).rows_of(pool.block.prompts, folder);
  first_samples(pool, 1);
}

void use_rollouts(const fs::path& folder) {
  const Rollouts rollouts = read_rollouts(folder / "a.h5", RolloutStage::learned);
  of_source(rollouts.batch, RolloutSource::policy);
  first_difference(rollouts.batch, rollouts.batch);
}

void use_metrics(const fs::path& folder) {
  for (const MetricsRow& row : read_metrics_h5(folder / "a.h5")) to_json_line(row);
}

SampleBlock whole_block() {  // with prefixes and trunk rows
  SampleBlock block = example_block(0, 3);
  block.prefixes.every = 2;
  block.prefixes.samples = 3;  // of four
  const std::int64_t cuts = block.prefixes.num_cuts(block.samples.max_new_tokens);
  for (std::size_t i = 0; i < block.samples.length.size(); ++i)
    for (std::int64_t cut = 1; cut <= cuts && i % 4 < 3; ++cut) {
      const std::int32_t length = block.samples.length[i];
      block.prefixes.reward.push_back(length > 2 * cut ? 0.5f : std::nanf(""));
      block.prefixes.logp_reference.push_back(length > 2 * cut ? -0.5f : std::nanf(""));
    }
  block.trunk.block = 1;
  block.trunk.width = 2;
  block.trunk.prompt.assign(block.prompts.tokens.size() * 2, 0.25f);
  block.trunk.samples.assign(static_cast<std::size_t>(trunk_offsets(block.samples).back()) * 2, 0.5f);
  return block;
}

}  // namespace

std::vector<Reader> h5_readers(const fs::path& scratch) {
  const fs::path made = scratch / "h5", work = scratch / "work";
  make_folders(made);
  make_folders(work);
  PoolHeader whole = example_pool_header();
  whole.prefix_every = 2;
  whole.prefix_samples = 3;
  whole.trunk_block = 1;
  write_pool(made / "pool.h5", whole, whole_block());
  RolloutHeader step;
  step.provenance.run_id = "run";
  write_rollouts(made / "rollouts.h5", RolloutStage::learned, step, example_rollouts(0, 3, RolloutStage::learned));
  write_eval(made / "eval.h5", example_eval());
  std::vector<MetricsRow> rows;
  for (std::int64_t k = 1; k <= 3; ++k)
    rows.push_back({.step = k, .episodes = k, .tokens = k, .values = {{"reward", 0.5}}, .time = {{"sample", {1, 2}}}});
  write_metrics_h5(made / "metrics.h5", {}, rows);

  struct Kind {
    std::string name;
    std::function<void(const fs::path&)> read;
  };
  const std::vector<Kind> kinds = {{"pool", use_pool},
                                   {"rollouts", use_rollouts},
                                   {"eval", [](const fs::path& f) { read_eval(f / "a.h5"); }},
                                   {"metrics", use_metrics}};
  std::vector<Reader> readers;
  for (const Kind& kind : kinds) {
    const fs::path path = made / (kind.name + ".h5");
    const Files ours = {{"a.h5", read_file(path)}};
    readers.push_back({.name = kind.name + ".h5, bytes", .seeds = {ours}, .read = kind.read});
    readers.push_back(
        {.name = kind.name + ".h5, content", .seeds = {ours}, .read = kind.read, .change = change_content(work)});
    readers.push_back(
        {.name = kind.name + ".h5, foreign", .seeds = {foreign(path, false), foreign(path, true)}, .read = kind.read});
  }
  for (Reader& reader : readers)
    if (reader.name == "pool.h5, foreign")
      reader.seeds.push_back({{"a.h5", read_file(fs::path(VBON_TEST_DATA) / "golden/store/pool_h5py.h5")}});

  // A part of a pool in the making; what is damaged is drawn again, so that nothing is refused but another pool's.
  const PoolParts parts(made / "whole.h5", whole, 3, 3);
  parts.write(0, whole_block(), 0.5);
  const auto read_part = [whole](const fs::path& folder) {
    const PoolParts again(folder / "whole.h5", whole, 3, 3);
    if (!again.missing().empty()) throw UserError("drawn again");
    again.merge();
  };
  const Files part = {{"whole.h5.parts/chunk-000000.h5", read_file(made / "whole.h5.parts/chunk-000000.h5")}};
  readers.push_back({.name = "part of a pool, bytes", .seeds = {part}, .read = read_part});
  readers.push_back(
      {.name = "part of a pool, content", .seeds = {part}, .read = read_part, .change = change_content(work)});
  return readers;
}

}  // namespace vbon::fuzz
