// A small table of text for people: columns of numbers to the right, all others to the left; also as Markdown.
#pragma once

#include <string>
#include <vector>

namespace vbon {

class Table {
 public:
  explicit Table(std::vector<std::string> headers);
  void add_row(std::vector<std::string> cells);  // as many as headers
  std::string text() const;                      // header, rule, rows; a newline after each
  std::string markdown() const;

 private:
  bool is_numeric(std::size_t column) const;
  std::vector<std::size_t> widths() const;

  std::vector<std::string> headers_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace vbon
