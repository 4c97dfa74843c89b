// Golden files of tests/golden/objective, and a plain source of random cases (its values need not be keyed).
#pragma once

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <stdexcept>
#include <string>

namespace vbon::test {

// A whole file, or one of its entries, by value (a range-for over golden(a).at(b) would outlive what it walks over).
inline nlohmann::json golden(const std::string& name) {
  std::ifstream file(std::string(VBON_TEST_DATA) + "/golden/objective/" + name);
  if (!file) throw std::runtime_error("no golden file " + name);
  return nlohmann::json::parse(file);
}
inline nlohmann::json golden(const std::string& name, const std::string& entry) { return golden(name).at(entry); }

struct Cases {
  std::mt19937_64 engine{12345};
  double uniform(double low = 0, double high = 1) { return std::uniform_real_distribution<double>(low, high)(engine); }
  double normal() { return std::normal_distribution<double>()(engine); }
  int below(int bound) { return std::uniform_int_distribution<int>(0, bound - 1)(engine); }
};

}  // namespace vbon::test
