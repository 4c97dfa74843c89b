// JSON that tests read and write: golden files, JSON lines.
#pragma once

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace vbon::test {

inline std::filesystem::path golden_path(const std::string& name) {
  return std::filesystem::path(VBON_TEST_DATA) / "golden" / name;
}

inline nlohmann::json golden_json(const std::string& name) {
  std::ifstream file(golden_path(name));
  return nlohmann::json::parse(file);
}

inline std::string lines_of(const nlohmann::json& records) {
  std::string lines;
  for (const nlohmann::json& record : records) lines += record.dump() + "\n";
  return lines;
}

}  // namespace vbon::test
