// safetensors: an 8-byte length, a JSON header (name -> dtype, shape, offsets), the tensors' bytes (little endian).
//
// Readers map the files and hand out views; the header is checked in full first: every tensor lies inside the file, has
// the bytes that its shape asks for, and the tensors fill the data without overlap or hole. Files of others need not be
// aligned: copy bytes out rather than cast. A file must not be truncated by others while it is mapped (replacing it by
// rename, as the commit protocol does, is fine).
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace vbon {

namespace fs = std::filesystem;

// In the order in which files keep them, widest last.
enum class DType { boolean, u8, i8, i16, f16, bf16, i32, f32, f64, i64 };
std::string_view name_of(DType dtype);  // as in files: "F32", "BF16" …
std::size_t bytes_of(DType dtype);      // of one value

struct TensorView {
  std::string name;
  DType dtype = DType::f32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;
  std::int64_t num_elements() const { return static_cast<std::int64_t>(bytes.size() / bytes_of(dtype)); }
};

inline constexpr std::uint64_t kMaxSafetensorsHeader = 100'000'000;  // bytes, the format's own limit

// The tensors of one file or of a model folder; owns the maps, so views live as long as it does.
class SafeTensors {
 public:
  static SafeTensors open_file(const fs::path& path);
  // `model.safetensors`, or else the shards that `model.safetensors.index.json` names (plain names only: an index may
  // not lead out of its folder). UserError naming a missing shard or a tensor that its shard does not hold.
  static SafeTensors open_folder(const fs::path& folder);

  const std::vector<TensorView>& tensors() const { return tensors_; }               // in name order
  const TensorView* find(std::string_view name) const;                              // nullptr: not there
  const TensorView& at(std::string_view name) const;                                // UserError naming the nearest name
  const std::map<std::string, std::string>& metadata() const { return metadata_; }  // `__metadata__` of one file
  const fs::path& path() const { return path_; }

 private:
  SafeTensors() = default;
  void add_file(const fs::path& path);
  void sort_by_name();

  fs::path path_;
  std::vector<std::shared_ptr<const void>> maps_;
  std::vector<TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Writes by the commit protocol. Equal tensors give equal bytes whatever their order: widest dtype first, then by name,
// as the format's own library does.
void write_safetensors(const fs::path& path, std::span<const TensorView> tensors,
                       const std::map<std::string, std::string>& metadata = {{"format", "pt"}});

// Tables of doubles. Reading: UserError unless the tensor is F64 of `shape` and finite.
std::vector<double> read_doubles(const SafeTensors& file, std::string_view name, std::span<const std::int64_t> shape);
TensorView view_of_doubles(std::string name, std::vector<std::int64_t> shape, std::span<const double> values);

// What a model folder is: the SHA-256 over "NAME SHA-256-of-the-file\n", in name order, of config.json, the weight
// files that open_folder() reads (with the index, if any) and those of `also` that exist (tokenizer.json, vocab.json
// …).
std::string folder_sha256(const fs::path& folder, std::span<const std::string> also = {});

}  // namespace vbon
