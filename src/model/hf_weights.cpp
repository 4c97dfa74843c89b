#include "vbon/model/hf_weights.hpp"

#include <ATen/ops/empty.h>
#include <ATen/ops/isfinite.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include <algorithm>
#include <map>
#include <set>

#include "model/json.hpp"
#include "vbon/base/log.hpp"
#include "vbon/base/rng.hpp"
#include "vbon/base/words.hpp"
#include "vbon/model/tensor_io.hpp"
#include "vbon/store/safetensors.hpp"

namespace vbon {
namespace {

constexpr std::uint64_t kMaxTokenizerFile = std::uint64_t{256} << 20;  // bytes

using Shape = std::vector<std::int64_t>;

// Shape in the file of an entry whose rows have `shape` here.
Shape file_shape(const WeightEntry& entry) {
  Shape shape = entry.shape;
  if (entry.turn == Turn::transpose) std::reverse(shape.begin(), shape.end());
  return shape;
}

// [H, 3, d, ...] in the file <-> [3, H, d, ...] here.
at::Tensor turn_heads(const at::Tensor& x, std::int64_t first, std::int64_t second, std::int64_t head_dim) {
  Shape split = {first, second, head_dim};
  const Shape whole = x.sizes().vec();
  split.insert(split.end(), whole.begin() + 1, whole.end());
  return x.view(split).transpose(0, 1).reshape(whole);
}

at::Tensor turned_in(const at::Tensor& x, Turn turn, const LmSpec& s) {
  if (turn == Turn::transpose) return x.t();
  if (turn == Turn::by_head) return turn_heads(x, s.num_heads, 3, s.head_dim);
  return x;
}

at::Tensor turned_out(const at::Tensor& x, Turn turn, const LmSpec& s) {
  if (turn == Turn::transpose) return x.t();
  if (turn == Turn::by_head) return turn_heads(x, 3, s.num_heads, s.head_dim);
  return x;
}

CausalLm empty_model(const LmSpec& spec, at::Device device) {
  CausalLm model;
  model.spec = spec;
  model.blocks.resize(static_cast<std::size_t>(spec.num_layers));
  model.rope = make_rope_table(spec.rope, spec.max_positions, device);
  return model;
}

// Allocates every target at the size that its entries ask for together.
void allocate(CausalLm& model, const std::vector<WeightEntry>& table, const at::TensorOptions& options) {
  std::map<at::Tensor*, Shape> shapes;
  for (const WeightEntry& entry : table) {
    Shape& shape = shapes[&entry.target(model)];
    if (shape.empty()) shape = entry.shape;
    shape[0] = std::max(shape[0], entry.first_row + entry.shape[0]);
  }
  for (auto& [tensor, shape] : shapes) *tensor = at::empty(shape, options);
}

void tie(CausalLm& model) {
  if (model.spec.tied_embeddings) model.head = model.token_embedding;
}

// Checkpoints of the bare model leave out the head's prefix ("transformer.", "gpt_neox.", "model."); those of scalar
// models (lm_classifier.hpp) have another in its place.
std::string name_in_file(const SafeTensors& file, const std::string& name) {
  const std::string bare = name.substr(name.find('.') + 1);
  for (const std::string& candidate : {name, bare, "lm_backbone." + bare})
    if (file.find(candidate) != nullptr) return candidate;
  return name;
}

void warn_of_unused(const SafeTensors& file, const std::set<std::string>& used, const LmSpec& spec) {
  std::vector<std::string> unused;
  for (const TensorView& view : file.tensors()) {
    const bool buffer = view.name.ends_with(".attn.bias") || view.name.ends_with(".masked_bias") ||
                        view.name.ends_with(".attention.bias") || view.name.ends_with("inv_freq");
    const bool tied_head = spec.tied_embeddings && (view.name == "lm_head.weight" || view.name == "embed_out.weight");
    if (!used.contains(view.name) && !buffer && !tied_head) unused.push_back(view.name);
  }
  if (unused.empty()) return;
  const std::size_t shown = std::min<std::size_t>(unused.size(), 5);
  log::warn("'{}' holds {} tensors that this model does not use: {}{}", file.path().string(), unused.size(),
            joined(std::span(unused).first(shown)), unused.size() > shown ? ", …" : "");
}

}  // namespace

std::vector<std::string> weight_problems(const LmSpec& spec, const SafeTensors& file) {
  std::vector<std::string> missing, problems;
  for (const WeightEntry& entry : weight_table(spec)) {
    const TensorView* const found = file.find(name_in_file(file, entry.name));
    if (found == nullptr) {
      missing.push_back(entry.name);
    } else if (found->shape != file_shape(entry)) {
      problems.push_back(fmt::format("tensor '{}' has shape [{}], but config.json asks for [{}]", found->name,
                                     fmt::join(found->shape, ", "), fmt::join(file_shape(entry), ", ")));
    }
  }
  if (!missing.empty())
    problems.insert(problems.begin(), fmt::format("{} tensors that config.json ({}) needs are missing, the first: {}",
                                                  missing.size(), spec.model_type, missing.front()));
  return problems;
}

CausalLm load_causal_lm(const fs::path& folder, at::Device device, at::ScalarType dtype) {
  return load_causal_lm(read_lm_spec(folder), SafeTensors::open_folder(folder), {}, device, dtype);
}

CausalLm load_causal_lm(const LmSpec& spec, const SafeTensors& file, std::span<const std::string> others,
                        at::Device device, at::ScalarType dtype) {
  const std::string where = file.path().string();
  CausalLm model = empty_model(spec, device);
  const std::vector<WeightEntry> table = weight_table(spec);
  std::set<std::string> used(others.begin(), others.end());
  // Everything is looked up before anything large is allocated.
  std::vector<std::string> missing;
  for (const WeightEntry& entry : table) {
    const std::string name = name_in_file(file, entry.name);
    if (file.find(name) == nullptr) missing.push_back(entry.name);
    used.insert(name);
  }
  require(missing.empty(), "'{}' lacks {} of the {} tensors that its config.json ({}) needs, the first: {}", where,
          missing.size(), table.size(), spec.model_type, missing.empty() ? "" : missing.front());
  allocate(model, table, at::TensorOptions(dtype).device(device));
  for (const WeightEntry& entry : table) {
    const at::Tensor source = load_tensor(file, name_in_file(file, entry.name), file_shape(entry), dtype);
    require(at::isfinite(source).all().item<bool>(),
            "'{}': tensor {} holds numbers that are not finite: these weights are broken", where, entry.name);
    entry.target(model).narrow(0, entry.first_row, entry.shape[0]).copy_(turned_in(source, entry.turn, spec));
  }
  tie(model);
  warn_of_unused(file, used, spec);
  return model;
}

CausalLm random_causal_lm(const LmSpec& spec, std::uint64_t seed, double deviation) {
  CausalLm model = empty_model(spec, at::kCPU);
  const std::vector<WeightEntry> table = weight_table(spec);
  allocate(model, table, at::TensorOptions(at::kFloat));
  const RandomStream stream(seed, Purpose::initialise);
  for (std::size_t index = 0; index < table.size(); ++index) {
    const WeightEntry& entry = table[index];
    at::Tensor part = entry.target(model).narrow(0, entry.first_row, entry.shape[0]);
    const bool is_norm = entry.shape.size() == 1 && entry.name.ends_with(".weight");
    if (entry.name.ends_with(".bias")) part.zero_();
    else if (is_norm) part.fill_(1.0);
    else {
      at::Tensor drawn = at::empty(entry.shape, at::kFloat);
      float* values = drawn.mutable_data_ptr<float>();
      for (std::int64_t i = 0; i < drawn.numel(); ++i)
        values[i] = static_cast<float>(deviation * stream.normal(i, static_cast<std::int32_t>(index)));
      part.copy_(drawn);
    }
  }
  tie(model);
  return model;
}

std::vector<std::pair<std::string, at::Tensor>> named_tensors(const CausalLm& model) {
  std::vector<std::pair<std::string, at::Tensor>> result;
  CausalLm view = model;  // tables want a mutable model; tensors are handles, nothing is copied
  for (const WeightEntry& entry : weight_table(model.spec)) {
    const at::Tensor rows = entry.target(view).detach().narrow(0, entry.first_row, entry.shape[0]);
    result.emplace_back(entry.name, turned_out(rows, entry.turn, model.spec).contiguous());
  }
  return result;
}

std::vector<std::string> tokenizer_files(const fs::path& folder) {
  std::vector<std::string> names;
  for (const char* name : {"tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.json",
                           "merges.txt", "vocab.txt", "chat_template.jinja", "added_tokens.json"})
    if (fs::exists(folder / name)) names.emplace_back(name);
  return names;
}

void copy_tokenizer_files(const fs::path& from, const fs::path& to) {
  for (const std::string& name : tokenizer_files(from))
    write_file_atomically(to / name, read_file(from / name, kMaxTokenizerFile));
}

void export_causal_lm(const CausalLm& model, const fs::path& folder, const ExportOptions& options) {
  make_folders(folder);
  Json config = parse_json(model.spec.config_text, "config.json");
  const char* dtype_name = model.dtype() == at::kBFloat16 ? "bfloat16" : "float32";
  config[config.contains("torch_dtype") ? "torch_dtype" : "dtype"] = dtype_name;
  Json generation = {{"do_sample", true},
                     {"temperature", options.temperature},
                     {"top_k", 0},
                     {"top_p", 1.0},
                     {"eos_token_id", model.spec.eos_ids}};
  if (options.max_new_tokens > 0) generation["max_new_tokens"] = options.max_new_tokens;
  if (!model.spec.eos_ids.empty()) {
    generation["pad_token_id"] = config.value("pad_token_id", Json()).is_number_integer()
                                     ? config["pad_token_id"]
                                     : Json(model.spec.eos_ids.front());
    config["eos_token_id"] =
        model.spec.eos_ids.size() == 1 ? Json(model.spec.eos_ids.front()) : Json(model.spec.eos_ids);
  }
  if (config.value("bos_token_id", Json()).is_number_integer()) generation["bos_token_id"] = config["bos_token_id"];
  copy_tokenizer_files(options.source, folder);
  write_file_atomically(folder / "config.json", config.dump(2) + "\n");
  write_file_atomically(folder / "generation_config.json", generation.dump(2) + "\n");
  write_tensors(folder / "model.safetensors", named_tensors(model));
}

}  // namespace vbon
