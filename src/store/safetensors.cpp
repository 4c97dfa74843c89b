#include "vbon/store/safetensors.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <set>

#include "store/atomic_bytes.hpp"
#include "store/descriptor.hpp"
#include "store/strict_json.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/base/words.hpp"

static_assert(std::endian::native == std::endian::little, "tensor files are little endian");

namespace vbon {
namespace {

struct DTypeRow {
  std::string_view name;
  std::size_t bytes;
};
constexpr std::array<DTypeRow, 10> kDTypes = {{{"BOOL", 1},
                                               {"U8", 1},
                                               {"I8", 1},
                                               {"I16", 2},
                                               {"F16", 2},
                                               {"BF16", 2},
                                               {"I32", 4},
                                               {"F32", 4},
                                               {"F64", 8},
                                               {"I64", 8}}};

constexpr std::string_view kWeights = "model.safetensors";
constexpr std::string_view kIndex = "model.safetensors.index.json";

struct Map {
  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;
};

Map map_file(const fs::path& path) {
  std::error_code error;
  require(!fs::exists(path, error) || fs::is_regular_file(path, error), "'{}' is no plain file", path.string());
  const Descriptor file(path, O_RDONLY);
  if (file.fd() < 0) throw_input_error(errno, "open", path.string());
  struct stat info = {};
  if (::fstat(file.fd(), &info) != 0) throw_input_error(errno, "stat", path.string());
  const auto size = static_cast<std::size_t>(info.st_size);
  require(size >= 8, "'{}' is no safetensors file: it has {} bytes", path.string(), size);
  void* memory = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.fd(), 0);
  if (memory == MAP_FAILED) throw_input_error(errno, "map", path.string());
  std::shared_ptr<const void> owner(memory, [size](const void* at) { ::munmap(const_cast<void*>(at), size); });
  return {std::move(owner), {static_cast<const std::byte*>(memory), size}};
}

DType parse_dtype(const std::string& name, const std::string& where) {
  for (std::size_t i = 0; i < kDTypes.size(); ++i)
    if (kDTypes[i].name == name) return static_cast<DType>(i);
  throw UserError("{} has dtype '{}', which is not supported; convert the file to F32, BF16 or F16", where, name);
}

std::uint64_t parse_count(const nlohmann::json& value, const std::string& where) {
  require(value.is_number_unsigned(), "{}: sizes and offsets are whole numbers >= 0", where);
  const auto count = value.get<std::uint64_t>();
  require(count <= (std::uint64_t{1} << 62), "{}: {} is too large", where, count);
  return count;
}

// One entry of the header; its bytes are checked to lie in `data` and to be as many as the shape asks for.
TensorView parse_tensor(const std::string& name, const nlohmann::json& entry, std::span<const std::byte> data,
                        const fs::path& path) {
  const std::string where = fmt::format("'{}': tensor '{}'", path.string(), name);
  require(entry.is_object() && entry.contains("dtype") && entry.contains("shape") && entry.contains("data_offsets"),
          "{} needs dtype, shape and data_offsets", where);
  require(entry["dtype"].is_string() && entry["shape"].is_array() && entry["data_offsets"].is_array() &&
              entry["data_offsets"].size() == 2,
          "{} has a malformed entry", where);
  TensorView tensor;
  tensor.name = name;
  tensor.dtype = parse_dtype(entry["dtype"].get<std::string>(), where);
  std::uint64_t bytes = bytes_of(tensor.dtype);
  for (const auto& value : entry["shape"]) {
    const std::uint64_t size = parse_count(value, where);
    require(!__builtin_mul_overflow(bytes, size, &bytes), "{}: the shape is too large", where);
    tensor.shape.push_back(static_cast<std::int64_t>(size));
  }
  const std::uint64_t begin = parse_count(entry["data_offsets"][0], where);
  const std::uint64_t end = parse_count(entry["data_offsets"][1], where);
  require(begin <= end && end <= data.size(), "{} lies outside the file (bytes {} to {} of {}); the file is truncated?",
          where, begin, end, data.size());
  require(end - begin == bytes, "{} has {} bytes where its shape and dtype need {}", where, end - begin, bytes);
  tensor.bytes = data.subspan(begin, bytes);
  return tensor;
}

// The tensors must fill the data exactly: what no tensor names would be hidden content, what two name an error.
void require_no_gaps(std::vector<TensorView>& tensors, std::span<const std::byte> data, const fs::path& path) {
  std::sort(tensors.begin(), tensors.end(), [](const TensorView& a, const TensorView& b) {
    return a.bytes.data() != b.bytes.data() ? a.bytes.data() < b.bytes.data() : a.bytes.size() < b.bytes.size();
  });
  const std::byte* at = data.data();
  for (const TensorView& tensor : tensors) {
    require(tensor.bytes.data() == at, "'{}': tensor '{}' overlaps its neighbour or leaves a hole; the file is damaged",
            path.string(), tensor.name);
    at += tensor.bytes.size();
  }
  require(at == data.data() + data.size(), "'{}' has bytes after its last tensor; the file is damaged", path.string());
}

nlohmann::json parse_header(std::span<const std::byte> file, const fs::path& path) {
  std::uint64_t length = 0;
  std::memcpy(&length, file.data(), 8);
  require(length >= 2 && length <= kMaxSafetensorsHeader && length <= file.size() - 8,
          "'{}' is no safetensors file or is truncated: its header has {} bytes", path.string(), length);
  const std::string_view text(reinterpret_cast<const char*>(file.data()) + 8, length);
  nlohmann::json header = parse_strict_json(text, /*max_depth=*/4, "the header of '" + path.string() + "'");
  require(header.is_object(), "the header of '{}' is no JSON object", path.string());
  return header;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() < 256 && name.find('/') == std::string_view::npos &&
         name.find('\\') == std::string_view::npos && name.find('\0') == std::string_view::npos && name != "." &&
         name != "..";
}

// tensor name -> file name
std::map<std::string, std::string> read_index(const fs::path& path) {
  const std::string text = read_file(path, kMaxSafetensorsHeader);
  const nlohmann::json index = parse_strict_json(text, /*max_depth=*/8, "'" + path.string() + "'");
  require(index.is_object() && index.contains("weight_map") && index["weight_map"].is_object() &&
              !index["weight_map"].empty(),
          "'{}' has no weight_map", path.string());
  std::map<std::string, std::string> files;
  for (const auto& [tensor, file] : index["weight_map"].items()) {
    require(file.is_string() && is_plain_name(file.get_ref<const std::string&>()),
            "'{}' names the file {} for tensor '{}'; an index may only name files in its own folder", path.string(),
            file.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace), tensor);
    files[tensor] = file.get<std::string>();
  }
  return files;
}

std::set<std::string> shard_names(const std::map<std::string, std::string>& index) {
  std::set<std::string> names;
  for (const auto& [tensor, file] : index) names.insert(file);
  return names;
}

std::uint64_t padded_to_8(std::uint64_t size) { return (size + 7) / 8 * 8; }

// The header in file order, written out by hand: JSON objects of the library are sorted by name.
std::string header_text(std::span<const TensorView* const> order, const std::map<std::string, std::string>& metadata) {
  const auto quoted = [](const std::string& text) { return nlohmann::json(text).dump(); };
  std::string text = "{";
  if (!metadata.empty()) text += "\"__metadata__\":" + nlohmann::json(metadata).dump();
  std::uint64_t offset = 0;
  for (const TensorView* tensor : order) {
    if (text.size() > 1) text += ',';
    const std::uint64_t end = offset + tensor->bytes.size();
    text += fmt::format("{}:{{\"dtype\":\"{}\",\"shape\":[{}],\"data_offsets\":[{},{}]}}", quoted(tensor->name),
                        name_of(tensor->dtype), fmt::join(tensor->shape, ","), offset, end);
    offset = end;
  }
  text += '}';
  text.resize(padded_to_8(text.size()), ' ');
  return text;
}

void check_writable(std::span<const TensorView> tensors) {
  std::set<std::string_view> names;
  for (const TensorView& tensor : tensors) {
    std::uint64_t bytes = bytes_of(tensor.dtype);
    for (const std::int64_t size : tensor.shape) bytes *= static_cast<std::uint64_t>(size);
    check(bytes == tensor.bytes.size(), "a tensor's bytes fit its shape");
    check(tensor.name != "__metadata__" && names.insert(tensor.name).second, "tensor names are unique");
  }
}

// UserError where a folder without model.safetensors has no shards of it either.
void require_index(const fs::path& folder) {
  if (fs::exists(folder / kIndex)) return;
  for (const char* name : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    require(!fs::exists(folder / name),
            "'{}' has its weights in {}, a format that can carry programs and is not read; write {} beside it by\n"
            "  python3 jobs/convert-weights.py '{}'",
            folder.string(), name, kWeights, folder.string());
  throw UserError("'{}' has neither {} nor {}; convert the weights to safetensors", folder.string(), kWeights, kIndex);
}

}  // namespace

std::string_view name_of(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)].name; }
std::size_t bytes_of(DType dtype) { return kDTypes[static_cast<std::size_t>(dtype)].bytes; }

void SafeTensors::add_file(const fs::path& path) {
  const Map map = map_file(path);
  const nlohmann::json header = parse_header(map.bytes, path);
  std::uint64_t length = 0;
  std::memcpy(&length, map.bytes.data(), 8);
  const std::span<const std::byte> data = map.bytes.subspan(8 + length);
  std::vector<TensorView> found;
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      found.push_back(parse_tensor(name, entry, data, path));
      continue;
    }
    require(entry.is_object(), "'{}': __metadata__ is no JSON object", path.string());
    for (const auto& [key, value] : entry.items()) {
      require(value.is_string(), "'{}': __metadata__ holds texts only", path.string());
      metadata_[key] = value.get<std::string>();
    }
  }
  require_no_gaps(found, data, path);
  maps_.push_back(map.owner);
  tensors_.insert(tensors_.end(), found.begin(), found.end());
}

void SafeTensors::sort_by_name() {
  std::sort(tensors_.begin(), tensors_.end(), [](const TensorView& a, const TensorView& b) { return a.name < b.name; });
}

SafeTensors SafeTensors::open_file(const fs::path& path) {
  SafeTensors opened;
  opened.path_ = path;
  opened.add_file(path);
  opened.sort_by_name();
  return opened;
}

SafeTensors SafeTensors::open_folder(const fs::path& folder) {
  require(fs::is_directory(folder), "'{}' is no folder; a model folder with {} is needed here", folder.string(),
          kWeights);
  if (fs::exists(folder / kWeights)) return open_file(folder / kWeights);
  require_index(folder);
  const std::map<std::string, std::string> index = read_index(folder / kIndex);
  SafeTensors opened;
  opened.path_ = folder;
  for (const std::string& shard : shard_names(index)) {
    require(fs::exists(folder / shard), "'{}' is missing; {} names it", (folder / shard).string(), kIndex);
    const std::size_t before = opened.tensors_.size();
    opened.add_file(folder / shard);
    // A shard may hold what the index gives to another one, or to none: the index decides.
    const auto foreign = [&](const TensorView& tensor) {
      const auto at = index.find(tensor.name);
      return at == index.end() || at->second != shard;
    };
    opened.tensors_.erase(
        std::remove_if(opened.tensors_.begin() + static_cast<std::ptrdiff_t>(before), opened.tensors_.end(), foreign),
        opened.tensors_.end());
  }
  opened.sort_by_name();
  for (const auto& [tensor, shard] : index)
    require(opened.find(tensor) != nullptr, "'{}' does not hold the tensor '{}' that {} says it holds",
            (folder / shard).string(), tensor, kIndex);
  return opened;
}

const TensorView* SafeTensors::find(std::string_view name) const {
  const auto at =
      std::lower_bound(tensors_.begin(), tensors_.end(), name,
                       [](const TensorView& tensor, std::string_view wanted) { return tensor.name < wanted; });
  return at != tensors_.end() && at->name == name ? &*at : nullptr;
}

const TensorView& SafeTensors::at(std::string_view name) const {
  if (const TensorView* tensor = find(name)) return *tensor;
  std::vector<std::string> names;
  for (const TensorView& tensor : tensors_) names.push_back(tensor.name);
  const std::string nearest = nearest_name(name, names);
  throw UserError("'{}' holds no tensor '{}'{}", path_.string(), name,
                  nearest.empty() ? "" : fmt::format(" (the nearest is '{}')", nearest));
}

void write_safetensors(const fs::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata) {
  check_writable(tensors);
  std::vector<const TensorView*> order;
  for (const TensorView& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const TensorView* a, const TensorView* b) {
    return a->dtype != b->dtype ? a->dtype > b->dtype : a->name < b->name;
  });
  const std::string header = header_text(order, metadata);
  check(header.size() <= kMaxSafetensorsHeader, "a header keeps the format's limit");
  const std::uint64_t length = header.size();
  std::vector<std::span<const std::byte>> pieces = {std::as_bytes(std::span(&length, 1)),
                                                    std::as_bytes(std::span(header))};
  for (const TensorView* tensor : order) pieces.push_back(tensor->bytes);
  write_bytes_atomically(path, pieces);
}

std::vector<double> read_doubles(const SafeTensors& file, std::string_view name, std::span<const std::int64_t> shape) {
  const TensorView& view = file.at(name);
  require(view.dtype == DType::f64 && std::ranges::equal(view.shape, shape), "'{}': tensor '{}' must be F64 [{}]",
          file.path().string(), name, fmt::join(shape, ", "));
  std::vector<double> values(static_cast<std::size_t>(view.num_elements()));
  std::copy(view.bytes.begin(), view.bytes.end(), std::as_writable_bytes(std::span(values)).begin());
  for (const double v : values)
    require(std::isfinite(v), "'{}': tensor '{}' holds a number that is not finite", file.path().string(), name);
  return values;
}

TensorView view_of_doubles(std::string name, std::vector<std::int64_t> shape, std::span<const double> values) {
  return {std::move(name), DType::f64, std::move(shape), std::as_bytes(values)};
}

std::string folder_sha256(const fs::path& folder, std::span<const std::string> also) {
  std::set<std::string> names = {"config.json"};
  if (fs::exists(folder / kWeights)) {
    names.emplace(kWeights);
  } else {
    require_index(folder);
    names.emplace(kIndex);
    names.merge(shard_names(read_index(folder / kIndex)));
  }
  for (const std::string& name : also)
    if (fs::exists(folder / name)) names.insert(name);
  Sha256 hash;
  for (const std::string& name : names) hash.update(name + " " + sha256_file(folder / name) + "\n");
  return hash.hex();
}

}  // namespace vbon
