#include "vbon/cli/table.hpp"

#include <algorithm>

#include "cli/text_layout.hpp"
#include "vbon/base/error.hpp"

namespace vbon {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }

// "0.53 ± 0.01", "-1e-3", "3m20s", "41%" …
bool begins_with_number(std::string_view cell) {
  if (!cell.empty() && (cell[0] == '-' || cell[0] == '+' || cell[0] == '<' || cell[0] == '>')) cell.remove_prefix(1);
  if (!cell.empty() && cell[0] == '.') cell.remove_prefix(1);
  return !cell.empty() && is_digit(cell[0]);
}

bool stands_for_number(std::string_view cell) {
  return cell.empty() || cell == "-" || cell == "nan" || cell == "inf" || cell == "-inf";
}

std::string markdown_cell(const std::string& cell) {
  std::string out;
  for (const char c : cell) {
    if (c == '|') out += '\\';
    out += c;
  }
  return out;
}

}  // namespace

Table::Table(std::vector<std::string> headers) : headers_(std::move(headers)) {
  for (std::string& header : headers_) header = one_line(header);
}

void Table::add_row(std::vector<std::string> cells) {
  check(cells.size() == headers_.size(), "a row has as many cells as the table has columns");
  for (std::string& cell : cells) cell = one_line(cell);
  rows_.push_back(std::move(cells));
}

bool Table::is_numeric(std::size_t column) const {
  bool any = false;
  for (const auto& row : rows_) {
    const bool number = begins_with_number(row[column]);
    if (!number && !stands_for_number(row[column])) return false;
    any = any || number;
  }
  return any;
}

std::vector<std::size_t> Table::widths() const {
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < headers_.size(); ++c) {
    std::size_t width = display_width(headers_[c]);
    for (const auto& row : rows_) width = std::max(width, display_width(row[c]));
    widths.push_back(width);
  }
  return widths;
}

std::string Table::text() const {
  const std::vector<std::size_t> width = widths();
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string out;
    for (std::size_t c = 0; c < cells.size(); ++c)
      out += (c == 0 ? "" : "  ") + padded(cells[c], width[c], is_numeric(c));
    return without_blanks_at_end(std::move(out)) + "\n";
  };
  std::string out = line(headers_);
  for (std::size_t c = 0; c < width.size(); ++c) out += (c == 0 ? "" : "  ") + std::string(width[c], '-');
  out += "\n";
  for (const auto& row : rows_) out += line(row);
  return out;
}

std::string Table::markdown() const {
  const auto line = [](const std::vector<std::string>& cells) {
    std::string out = "|";
    for (const std::string& cell : cells) out += " " + markdown_cell(cell) + " |";
    return out + "\n";
  };
  std::string out = line(headers_) + "|";
  for (std::size_t c = 0; c < headers_.size(); ++c) out += is_numeric(c) ? "---:|" : "---|";
  out += "\n";
  for (const auto& row : rows_) out += line(row);
  return out;
}

}  // namespace vbon
