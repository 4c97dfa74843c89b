#include <stdexcept>

#include "fuzz/readers.hpp"
#include "vbon/base/files.hpp"
#include "vbon/generate/sampling.hpp"
#include "vbon/model/encoder_spec.hpp"
#include "vbon/model/lm_spec.hpp"
#include "vbon/reward/ngram.hpp"
#include "vbon/store/safetensors.hpp"
#include "vbon/train/cdf_head.hpp"

namespace vbon::fuzz {
namespace {

const fs::path kGolden = fs::path(VBON_TEST_DATA) / "golden";

void use(const SafeTensors& file) {
  std::size_t sum = 0;
  for (const TensorView& tensor : file.tensors()) {
    for (const std::byte byte : tensor.bytes) sum += static_cast<std::size_t>(byte);
    if (file.find(tensor.name) == nullptr) throw std::runtime_error("a tensor that is not found by its name");
  }
  if (!file.tensors().empty()) file.at(file.tensors().front().name);
  if (sum == 1) file.at("no such tensor");
}

// Two shards with an index.
Files sharded(const fs::path& folder) {
  const std::vector<float> values(12, 1.5f);
  const auto bytes = std::as_bytes(std::span(values));
  make_folders(folder);
  write_safetensors(folder / "a.safetensors",
                    std::vector<TensorView>{{"x", DType::f32, {3, 4}, bytes}, {"s", DType::f32, {}, bytes.first(4)}});
  write_safetensors(folder / "b.safetensors",
                    std::vector<TensorView>{{"y", DType::bf16, {2, 12}, bytes}, {"empty", DType::i64, {0, 7}, {}}});
  Files files = files_in(folder);
  files["model.safetensors.index.json"] =
      R"({"metadata": {"total_size": 100}, "weight_map": {"x": "a.safetensors", "s": "a.safetensors", "y": "b.safetensors", "empty": "b.safetensors"}})";
  files["config.json"] = "{}";
  return files;
}

void read_spec(const fs::path& folder) {
  const std::string text = read_file(folder / "config.json");
  if (text.find("bert") != std::string::npos) {
    const EncoderSpec spec = read_encoder_spec(folder);
    if (spec.head_dim() * spec.num_heads != spec.hidden_size)
      throw std::runtime_error("heads that do not fill the width");
  } else if (count_parameters(read_lm_spec(folder)) < 0) {
    throw std::runtime_error("a negative number of parameters");
  }
  if (fs::exists(folder / "generation_config.json"))
    problems(read_generation_config(folder / "generation_config.json"), true);
}

Files ngram_model(const fs::path& folder) {
  make_folders(folder);
  save_ngram({.order = 2,
              .prefix = 3,
              .vocabulary = {{"good", 0},
                             {"very good", 1},
                             {"^goo", 2},
                             {"b\xC3\xA4"
                              "d",
                              3}},
              .weights = {1, 2, 0.5, -3},
              .bias = 0.25},
             folder);
  return files_in(folder);
}

Files cdf_head(const fs::path& folder) {
  save_cdf_head({.components = 2,
                 .weight = std::vector<double>(18, 0.5),
                 .bias = std::vector<double>(6, 0.1),
                 .shift = {1, 2, 3},
                 .spread = {1, 1, 2},
                 .reference_sha256 = std::string(64, 'a'),
                 .made = "x"},
                folder);
  return files_in(folder);
}

}  // namespace

std::vector<Reader> model_readers(const fs::path& scratch) {
  std::vector<Files> one, specs;
  one.push_back({{"model.safetensors", read_file(kGolden / "store/every_dtype.safetensors")}, {"config.json", "{}"}});
  for (const char* name : {"gpt2", "llama_gqa_tied", "llama_rope_llama3", "llama_rope_linear", "neox_parallel",
                           "bert_classifier", "bert_sentence", "distilbert_classifier"}) {
    specs.push_back({{"config.json", read_file(kGolden / "model" / name / "config.json")}});
    if (specs.back()["config.json"].find("bert") == std::string::npos)
      specs.back()["generation_config.json"] =
          R"({"do_sample": true, "temperature": 0.7, "top_k": 0, "top_p": 1.0, "max_new_tokens": 40, "eos_token_id": [0, 1]})";
  }
  const auto tensors = [](const fs::path& folder) {
    use(SafeTensors::open_folder(folder));
    folder_sha256(folder);
  };
  return {{.name = "safetensors", .seeds = std::move(one), .read = tensors},
          {.name = "safetensors in shards", .seeds = {sharded(scratch / "shards")}, .read = tensors},
          {.name = "config.json", .seeds = std::move(specs), .read = read_spec},
          {.name = "n-gram reward",
           .seeds = {ngram_model(scratch / "ngram")},
           .read =
               [](const fs::path& folder) {
                 log_odds(load_ngram(folder),
                          "A very good b\xC3\xA4"
                          "d one");
               }},
          {.name = "amortised head", .seeds = {cdf_head(scratch / "cdf")}, .read = [](const fs::path& folder) {
             const CdfHead head = load_cdf_head(folder);
             const std::vector<double> embedding(static_cast<std::size_t>(head.width()), 0.5);
             head.mixture(embedding).log_cdf(0.25);
           }}};
}

}  // namespace vbon::fuzz
