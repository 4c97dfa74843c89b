// All numbers of a dataset of any type, a few rows at a time: as many as nobody minds keeping.
#pragma once

#include <algorithm>
#include <span>
#include <vector>

#include "vbon/store/hdf5.hpp"

namespace vbon {

template <H5Number T, class Use>
void for_blocks_of(const H5Dataset& dataset, Use&& use) {
  constexpr std::int64_t kBlockBytes = std::int64_t{4} << 20;
  if (dataset.row_elements() == 0) return;  // and the file may claim any number of such rows
  const std::int64_t row_bytes = dataset.row_elements() * static_cast<std::int64_t>(sizeof(T));
  const std::int64_t step = std::max<std::int64_t>(1, kBlockBytes / row_bytes);
  std::vector<T> block;
  for (std::int64_t row = 0; row < dataset.num_rows(); row += step) {
    block.resize(static_cast<std::size_t>(std::min(step, dataset.num_rows() - row) * dataset.row_elements()));
    dataset.read_rows(row, std::span<T>(block));
    use(std::span<const T>(block));
  }
}

// use(span of numbers) for each block of rows, use(vector of strings) once for text.
template <class Use>
void for_blocks(const H5Dataset& dataset, Use&& use) {
  switch (dataset.type()) {
    case H5Type::int32: return for_blocks_of<std::int32_t>(dataset, use);
    case H5Type::int64: return for_blocks_of<std::int64_t>(dataset, use);
    case H5Type::uint8: return for_blocks_of<std::uint8_t>(dataset, use);
    case H5Type::float32: return for_blocks_of<float>(dataset, use);
    case H5Type::float64: return for_blocks_of<double>(dataset, use);
    case H5Type::text: return use(dataset.read_text());
  }
}

}  // namespace vbon
