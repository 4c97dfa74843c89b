#include "vbon/reward/ngram.hpp"

#include <utf8proc.h>

#include <array>
#include <bit>
#include <cmath>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"
#include "vbon/base/json.hpp"
#include "vbon/store/safetensors.hpp"

namespace vbon {
namespace {

constexpr std::uint64_t kMaxVocabularyBytes = std::uint64_t{1} << 30;
constexpr const char* kModelType = "vbon_ngram";

bool in_word(utf8proc_int32_t code) {
  switch (utf8proc_category(code)) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC:
    case UTF8PROC_CATEGORY_ME:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO: return true;
    default: return false;
  }
}

bool is_apostrophe(utf8proc_int32_t code) { return code == '\'' || code == 0x2019; }

void append(std::string& text, utf8proc_int32_t code) {
  utf8proc_uint8_t bytes[4];
  text.append(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(utf8proc_encode_char(code, bytes)));
}

// Bytes of the first `count` code points of a word, or of all of it.
std::size_t code_points_end(const std::string& word, std::int64_t count) {
  std::size_t at = 0;
  for (; at < word.size(); ++at)
    if ((static_cast<unsigned char>(word[at]) & 0xC0u) != 0x80u && count-- == 0) break;
  return at;
}

nlohmann::json read_json(const fs::path& path) {
  require(fs::exists(path), "'{}' is missing: no n-gram model written by `vbon reward`", path.string());
  nlohmann::json json = parse_json(read_file(path, kMaxVocabularyBytes), "'" + path.string() + "'");
  require(json.is_object(), "'{}' is damaged: it holds no JSON object", path.string());
  return json;
}

}  // namespace

std::vector<std::string> words_of(std::string_view text) {
  const auto* bytes = reinterpret_cast<const utf8proc_uint8_t*>(text.data());
  const auto size = static_cast<utf8proc_ssize_t>(text.size());
  std::vector<std::string> words;
  std::string word;
  bool apostrophe = false;  // one stands behind `word`, and may yet be inside it
  const auto end_word = [&] {
    if (!word.empty()) words.push_back(std::move(word));
    word.clear();
    apostrophe = false;
  };
  for (utf8proc_ssize_t at = 0; at < size;) {
    utf8proc_int32_t code = -1;
    const utf8proc_ssize_t length = utf8proc_iterate(bytes + at, size - at, &code);
    at += length > 0 ? length : 1;
    if (length > 0 && in_word(code)) {
      if (apostrophe) word += '\'';
      apostrophe = false;
      append(word, utf8proc_tolower(code));
    } else if (length > 0 && is_apostrophe(code) && !word.empty() && !apostrophe) {
      apostrophe = true;
    } else {
      end_word();
    }
  }
  end_word();
  return words;
}

std::vector<std::string> ngrams_of(std::string_view text, std::int64_t order, std::int64_t prefix) {
  const std::vector<std::string> words = words_of(text);
  std::vector<std::string> ngrams;
  std::unordered_set<std::string> seen;
  for (std::size_t begin = 0; begin < words.size(); ++begin) {
    const std::size_t start = prefix > 0 ? code_points_end(words[begin], prefix) : words[begin].size();
    if (start < words[begin].size())
      if (std::string mark = "^" + words[begin].substr(0, start); seen.insert(mark).second)
        ngrams.push_back(std::move(mark));
    std::string ngram;
    for (std::size_t end = begin; end < words.size() && end - begin < static_cast<std::size_t>(order); ++end) {
      if (end > begin) ngram += ' ';
      ngram += words[end];
      if (seen.insert(ngram).second) ngrams.push_back(ngram);
    }
  }
  return ngrams;
}

double log_odds(const NgramModel& model, std::string_view text) {
  double sum = model.bias;
  for (const std::string& ngram : ngrams_of(text, model.order, model.prefix))
    if (const auto found = model.vocabulary.find(ngram); found != model.vocabulary.end())
      sum += model.weights[found->second];
  return sum;
}

void save_ngram(const NgramModel& model, const fs::path& folder) {
  check(model.vocabulary.size() == model.weights.size(), "save_ngram: a weight for every n-gram");
  static_assert(std::endian::native == std::endian::little, "safetensors are little endian");
  make_folders(folder);
  const nlohmann::json vocabulary(model.vocabulary);  // sorted by n-gram
  write_file_atomically(folder / "vocab.json", vocabulary.dump() + "\n");
  const std::vector<TensorView> tensors = {view_of_doubles("weight", {std::ssize(model.weights)}, model.weights),
                                           view_of_doubles("bias", {1}, std::span(&model.bias, 1))};
  write_safetensors(folder / "model.safetensors", tensors);
  const nlohmann::json config = {{"model_type", kModelType}, {"order", model.order}, {"prefix", model.prefix}};
  write_file_atomically(folder / "config.json", config.dump(2) + "\n");
}

NgramModel load_ngram(const fs::path& folder) {
  const nlohmann::json config = read_json(folder / "config.json");
  const std::string type = config.value("model_type", nlohmann::json()).is_string() ? config["model_type"] : "";
  require(type == kModelType, "'{}': model_type '{}' is no n-gram model (it would be '{}'); is its kind `classifier`?",
          (folder / "config.json").string(), type, kModelType);
  const nlohmann::json order = config.value("order", nlohmann::json());
  require(order.is_number_integer() && order >= 1 && order <= 5, "'{}': 'order' must be in 1 … 5",
          (folder / "config.json").string());
  const nlohmann::json prefix = config.value("prefix", nlohmann::json(0));
  require(prefix.is_number_unsigned() && prefix <= 100, "'{}': 'prefix' must be in 0 … 100",
          (folder / "config.json").string());
  NgramModel model{.order = order, .prefix = prefix};
  const fs::path path = folder / "vocab.json";
  const nlohmann::json vocabulary = read_json(path);
  std::vector<bool> taken(vocabulary.size());
  for (const auto& [ngram, place] : vocabulary.items()) {
    require(place.is_number_unsigned() && place < taken.size() && !taken[place.get<std::size_t>()],
            "'{}' is damaged: the places of its {} n-grams must be 0 … {}, each once", path.string(), taken.size(),
            taken.size() - 1);
    taken[place.get<std::size_t>()] = true;
    model.vocabulary.emplace(ngram, place.get<std::size_t>());
  }
  const SafeTensors file = SafeTensors::open_folder(folder);
  model.weights = read_doubles(file, "weight", std::array{std::ssize(model.vocabulary)});  // one for each n-gram
  model.bias = read_doubles(file, "bias", std::array{std::int64_t{1}}).front();
  return model;
}

}  // namespace vbon
