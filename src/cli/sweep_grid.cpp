#include "cli/sweep_grid.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/words.hpp"
#include "vbon/cli/yaml.hpp"

namespace vbon::cli {
namespace {

using Settings = std::vector<std::pair<std::string, std::string>>;

const std::string kRanks = "ranks";  // no key of the configuration: those have a section
constexpr int kMostRanks = 1'000'000;

class Reader {
 public:
  explicit Reader(std::filesystem::path file) : file_(std::move(file)) {}

  Grid read(std::string_view text) {
    const YamlNode root = parse_yaml(text, file_.filename().string(), errors_);
    if (root.kind != YamlNode::Kind::map) fail(file_.string(), "a grid is a map", root);
    Grid grid{.name = file_.stem().string()};
    std::vector<std::string> seeds;
    const YamlNode* blocks = nullptr;
    for (const YamlNode::Entry& entry : root.entries) {
      if (entry.key == "name") grid.name = scalar(entry);
      else if (entry.key == "config") grid.config = (file_.parent_path() / scalar(entry)).lexically_normal();
      else if (entry.key == "dir") grid.dir = scalar(entry);
      else if (entry.key == "seeds") seeds = scalars(entry);
      else if (entry.key == "launch") grid.launch = scalars(entry);
      else if (entry.key == "set") grid.common = settings(entry);
      else if (entry.key == "slurm") grid.slurm = settings(entry);
      else if (entry.key == "runs") blocks = &entry.value;
      else unknown(entry, {"name", "config", "dir", "seeds", "launch", "set", "runs", "slurm"});
    }
    if (grid.config.empty())
      errors_.push_back(fmt::format("{}: `config` is missing: what every run starts from", name()));
    if (grid.dir.empty()) errors_.push_back(fmt::format("{}: `dir` is missing: where the sweep writes", name()));
    if (blocks == nullptr || blocks->kind != YamlNode::Kind::sequence || blocks->items.empty())
      errors_.push_back(fmt::format("{}: `runs` needs a list of at least one block", name()));
    else
      for (const YamlNode& block : blocks->items) expand(block, grid.common, seeds, grid.runs);
    take_ranks(grid);
    throw_if_any(errors_);
    return grid;
  }

 private:
  std::string name() const { return file_.filename().string(); }

  void fail(const std::string& place, const std::string& needed, const YamlNode& found) {
    errors_.push_back(fmt::format("{}: {}, not {}", place, needed, description(found)));
  }
  void unknown(const YamlNode::Entry& entry, const std::vector<std::string>& known) {
    const std::string nearest = nearest_name(entry.key, known);
    errors_.push_back(
        fmt::format("{}: unknown key '{}'{}", entry.place, entry.key,
                    nearest.empty() ? "; there are " + joined(known) : fmt::format("; did you mean '{}'?", nearest)));
  }
  std::string scalar(const YamlNode::Entry& entry) {
    if (entry.value.kind != YamlNode::Kind::scalar) fail(entry.place, entry.key + " needs one value", entry.value);
    return entry.value.text;
  }
  std::vector<std::string> scalars(const YamlNode::Entry& entry) {
    std::vector<std::string> values;
    if (entry.value.kind != YamlNode::Kind::sequence) fail(entry.place, entry.key + " needs a list", entry.value);
    for (const YamlNode& item : entry.value.items) values.push_back(item.text);
    return values;
  }
  Settings settings(const YamlNode::Entry& entry) {
    Settings found;
    if (entry.value.kind != YamlNode::Kind::map) fail(entry.place, entry.key + " needs a map", entry.value);
    for (const YamlNode::Entry& own : entry.value.entries) found.emplace_back(own.key, flow_text(own.value));
    return found;
  }

  // A key with the values that it takes.
  struct Axis {
    std::string key;
    std::vector<std::string> values;
  };
  std::vector<Axis> axes(const YamlNode::Entry& entry) {
    std::vector<Axis> found;
    if (entry.value.kind != YamlNode::Kind::map) fail(entry.place, entry.key + " needs a map of lists", entry.value);
    for (const YamlNode::Entry& own : entry.value.entries) {
      if (own.value.kind != YamlNode::Kind::sequence || own.value.items.empty()) {
        fail(own.place, own.key + " needs a list of values", own.value);
        continue;
      }
      Axis axis{.key = own.key};
      for (const YamlNode& value : own.value.items) axis.values.push_back(flow_text(value));
      found.push_back(std::move(axis));
    }
    return found;
  }

  void expand(const YamlNode& block, const Settings& common, const std::vector<std::string>& seeds,
              std::vector<GridRun>& runs) {
    if (block.kind != YamlNode::Kind::map) return fail(block.place, "a block of runs is a map", block);
    GridRun first{.overrides = common};
    std::vector<Axis> product, zipped;
    for (const YamlNode::Entry& entry : block.entries) {
      if (entry.key == "name") first.label = scalar(entry);
      else if (entry.key == "set") {
        for (const auto& [key, value] : settings(entry)) put(first.overrides, key, value);
      } else if (entry.key == "product") product = axes(entry);
      else if (entry.key == "zip") zipped = axes(entry);
      else unknown(entry, {"name", "set", "product", "zip"});
    }
    for (const Axis& axis : zipped)
      if (axis.values.size() != zipped.front().values.size())
        errors_.push_back(fmt::format("{}: under zip, '{}' has {} values and '{}' has {}: they go in step", block.place,
                                      zipped.front().key, zipped.front().values.size(), axis.key, axis.values.size()));
    if (!errors_.empty()) return;
    if (first.label.empty())
      for (const auto& [key, value] : first.overrides)
        if (key == "train.method") first.label = word(value);
    std::vector<GridRun> made = {first};
    const auto vary = [&made](std::size_t count, const auto& apply) {
      std::vector<GridRun> more;
      for (const GridRun& run : made)
        for (std::size_t i = 0; i < count; ++i) {
          more.push_back(run);
          apply(more.back(), i);
        }
      made = std::move(more);
    };
    for (const Axis& axis : product)
      vary(axis.values.size(), [&](GridRun& run, std::size_t i) { set(run, axis.key, axis.values[i]); });
    if (!zipped.empty())
      vary(zipped.front().values.size(), [&](GridRun& run, std::size_t i) {
        for (const Axis& axis : zipped) set(run, axis.key, axis.values[i]);
      });
    if (!seeds.empty())
      vary(seeds.size(), [&](GridRun& run, std::size_t i) {
        put(run.overrides, "run.seed", seeds[i]);
        run.label += "-seed" + seeds[i];
      });
    runs.insert(runs.end(), made.begin(), made.end());
  }

  // Of the runs' keys `ranks` is for the launcher.
  void take_ranks(Grid& grid) {
    std::erase_if(grid.common, [](const auto& own) { return own.first == kRanks; });
    std::vector<std::string> without;
    for (GridRun& run : grid.runs) {
      const auto found =
          std::find_if(run.overrides.begin(), run.overrides.end(), [](const auto& own) { return own.first == kRanks; });
      if (found == run.overrides.end()) {
        without.push_back(run.label);
        continue;
      }
      const std::string& text = found->second;
      run.ranks = whole_number(text);
      if (run.ranks < 1 || run.ranks > kMostRanks)
        errors_.push_back(fmt::format("{}: ranks '{}' is not a number of ranks (1 to {})", name(), text, kMostRanks));
      // Two runs that differ in their ranks alone are two folders.
      if (run.label.find(kRanks + text) == std::string::npos)
        run.label += (run.label.empty() ? "" : "-") + (kRanks + text);
      run.overrides.erase(found);
    }
    if (!grid.has_ranks()) return;
    for (const std::string& label : without)
      errors_.push_back(fmt::format("{}: other runs say their `ranks`, and {} does not", name(), label));
    if (ranks_of_launch(grid.launch) > 0)
      errors_.push_back(fmt::format("{}: `launch` says how many ranks, and so do the runs: leave out its -n", name()));
  }

  static void put(Settings& settings, const std::string& key, const std::string& value) {
    for (auto& [own, text] : settings)
      if (own == key) return void(text = value);
    settings.emplace_back(key, value);
  }
  // What of a value can be part of a file's name.
  static std::string word(std::string value) {
    std::erase_if(value, [](unsigned char c) { return !std::isalnum(c) && c != '.' && c != '-' && c != '_'; });
    return value;
  }
  // A value that varies is part of the label, by the last word of its key: N4, objectiveL.
  static void set(GridRun& run, const std::string& key, const std::string& value) {
    put(run.overrides, key, value);
    const std::string text = key.substr(key.rfind('.') + 1) + word(value);
    run.label += (run.label.empty() ? "" : "-") + text;
  }

  std::filesystem::path file_;
  std::vector<std::string> errors_;
};

}  // namespace

bool Grid::has_ranks() const {
  return std::any_of(runs.begin(), runs.end(), [](const GridRun& run) { return run.ranks > 0; });
}

int ranks_of_launch(const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size(); ++i)
    for (const std::string_view flag : {"-n", "-np", "--ntasks"}) {
      if (words[i] == flag && i + 1 < words.size()) return whole_number(words[i + 1]);
      if (words[i].starts_with(std::string(flag) + "="))
        return whole_number(std::string_view(words[i]).substr(flag.size() + 1));
    }
  return 0;
}

int whole_number(std::string_view text) {
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? value : 0;
}

Grid parse_grid(std::string_view text, const std::filesystem::path& file) { return Reader(file).read(text); }

Grid read_grid(const std::filesystem::path& file) {
  require(std::filesystem::is_regular_file(file), "there is no grid file '{}'", file.string());
  return parse_grid(read_file(file), file);
}

}  // namespace vbon::cli
