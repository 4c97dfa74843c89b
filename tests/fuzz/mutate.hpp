// Changed copies of valid files: any bytes, and what is structured changed in its structure. A number gives the same
// change everywhere.
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <random>
#include <string>
#include <string_view>

namespace vbon::fuzz {

using Files = std::map<std::string, std::string>;  // of a folder: name -> bytes

class Random {
 public:
  Random(std::string_view stream, std::uint64_t number);
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(engine_() % n); }  // 0 … n - 1
  bool one_in(std::size_t n) { return below(n) == 0; }
  std::uint64_t bits() { return engine_(); }
  // Often small, up to `most`.
  std::size_t size(std::size_t most);
  template <class List>
  const auto& any_of(const List& list) {
    return list[below(std::size(list))];
  }

 private:
  std::mt19937_64 engine_;
};

// One to a few changes of one or two of the files, chosen by the ends of their names.
void mutate(Files& files, Random& random);

void mutate_bytes(std::string& bytes, Random& random);
void mutate_json(std::string& text, Random& random);
void mutate_lines(std::string& text, Random& random);  // of JSON or words
void mutate_yaml(std::string& text, Random& random);
void mutate_safetensors(std::string& bytes, Random& random);

}  // namespace vbon::fuzz
