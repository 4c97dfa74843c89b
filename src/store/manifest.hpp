// The two JSON files of a checkpoint folder.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "vbon/store/checkpoint.hpp"

namespace vbon {

// Relative, one to three plain components, none hidden: what a plan or manifest may name.
bool is_part_name(const std::string& name);

std::string manifest_text(const Manifest& manifest);
Manifest read_manifest(const fs::path& path);  // UserError

std::string plan_text(std::span<const std::string> part_names);
std::vector<std::string> read_plan(const fs::path& path);  // UserError

}  // namespace vbon
