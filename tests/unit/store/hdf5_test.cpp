#include "vbon/store/hdf5.hpp"

#include <unistd.h>

#include <numeric>
#include <random>

#include "temp_folder.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/sha256.hpp"
#include "vbon/store/h5_commit.hpp"

namespace vbon {
namespace {

using Hdf5 = TempFolder;
static_assert(std::is_nothrow_move_constructible_v<H5Dataset> && std::is_nothrow_move_constructible_v<H5File>);
static_assert(!std::is_copy_constructible_v<H5Group> && !std::is_copy_constructible_v<H5Handle<detail::close_h5_file>>);

std::vector<std::int32_t> counted(std::size_t n) {
  std::vector<std::int32_t> values(n);
  std::iota(values.begin(), values.end(), -7);
  return values;
}

void write_example(H5File& file) {
  file.write_attribute("format", "vbon.example");
  file.write_attribute("schema_version", std::int64_t{1});
  file.write_attribute("rate", 0.7);
  file.write_attribute("flag", std::uint8_t{1});
  file.write_attribute("eos_ids", std::vector<std::int64_t>{0, 2});
  file.write_attribute("no_ids", std::vector<std::int64_t>{});
  file.write("numbers/i32", {2, 3}, counted(6));
  file.write("numbers/i64", {2}, std::vector<std::int64_t>{1, -(std::int64_t{1} << 40)});
  file.write("numbers/u8", {3}, std::vector<std::uint8_t>{0, 1, 255});
  file.write("numbers/f32", {2}, std::vector<float>{1.5f, -0.0f});
  file.write("numbers/f64", {}, std::vector<double>{1e-300});
  file.write("numbers/empty", {0, 5}, std::vector<float>{});
  file.write("text", std::vector<std::string>{"plain", "", "\xC3\xA9\xF0\x9F\x98\x80\n"});
}

TEST_F(Hdf5, values_and_attributes_of_every_type_come_back) {
  const fs::path path = folder_ / "a.h5";
  const std::string sha256 = write_h5_atomically(path, write_example);
  EXPECT_EQ(verify_h5(path), sha256);
  EXPECT_EQ(num_files(), 1u);
  const H5File file = open_h5(path, "vbon.example", 1, H5Trust::ours);
  EXPECT_EQ(file.attribute<double>("rate"), 0.7);
  EXPECT_EQ(file.attribute<std::uint8_t>("flag"), 1);
  EXPECT_EQ(file.attribute<std::vector<std::int64_t>>("eos_ids"), (std::vector<std::int64_t>{0, 2}));
  EXPECT_TRUE(file.attribute<std::vector<std::int64_t>>("no_ids").empty());
  EXPECT_EQ(file.read<std::int32_t>("numbers/i32", {2, 3}), counted(6));
  EXPECT_EQ(file.read<std::int64_t>("numbers/i64", {kAnySize}),
            (std::vector<std::int64_t>{1, -(std::int64_t{1} << 40)}));
  EXPECT_EQ(file.read<std::uint8_t>("numbers/u8", {3}), (std::vector<std::uint8_t>{0, 1, 255}));
  EXPECT_EQ(file.read<float>("numbers/f32", {2}), (std::vector<float>{1.5f, -0.0f}));
  EXPECT_EQ(file.read<double>("numbers/f64", {}), (std::vector<double>{1e-300}));
  EXPECT_EQ(file.read<float>("numbers/empty", {0, 5}), std::vector<float>{});
  EXPECT_EQ(file.read_text("text", 3), (std::vector<std::string>{"plain", "", "\xC3\xA9\xF0\x9F\x98\x80\n"}));
  EXPECT_EQ(file.members(), (std::vector<std::string>{"numbers", "text"}));
  EXPECT_EQ(file.dataset_paths().size(), 7u);
}

TEST_F(Hdf5, rows_of_a_large_chunked_dataset_are_written_and_read_apart) {
  const std::int64_t rows = 700, width = 3000;  // 8.4 MB: three chunks
  const fs::path path = folder_ / "rows.h5";
  const std::vector<std::int32_t> all = counted(static_cast<std::size_t>(rows * width));
  write_h5_atomically(path, [&](H5File& file) {
    file.write_attribute("format", "vbon.example");
    H5Dataset dataset = file.create_dataset("x", H5Type::int32, {rows, width});
    for (std::int64_t first = 0; first < rows; first += 90) {
      const std::int64_t count = std::min<std::int64_t>(90, rows - first);
      dataset.write_rows(first, std::span(all).subspan(static_cast<std::size_t>(first * width),
                                                       static_cast<std::size_t>(count * width)));
    }
  });
  const H5File file = H5File::open(path);
  const H5Dataset dataset = file.dataset("x", H5Type::int32, {rows, width});
  EXPECT_EQ(dataset.read<std::int32_t>(), all);
  std::vector<std::int32_t> two(static_cast<std::size_t>(2 * width));
  dataset.read_rows(348, std::span(two));
  EXPECT_TRUE(std::equal(two.begin(), two.end(), all.begin() + 348 * width));
  EXPECT_THROW(dataset.read_rows(699, std::span(two)), InternalError);
}

TEST_F(Hdf5, equal_content_gives_equal_bytes_and_equal_checksums_without_circumstances) {
  const std::string one = write_h5_atomically(folder_ / "1.h5", write_example);
  EXPECT_EQ(write_h5_atomically(folder_ / "2.h5", write_example), one);
  EXPECT_EQ(sha256_file(folder_ / "1.h5"), sha256_file(folder_ / "2.h5"));
  const std::string later = write_h5_atomically(folder_ / "3.h5", [](H5File& file) {
    write_example(file);
    file.write_attribute("created_utc", "2030-01-01T00:00:00Z");
    file.write_attribute("attempt", std::int64_t{3});
    file.write("time/sample", {1}, std::vector<double>{0.25});
  });
  EXPECT_EQ(later, one);
  const std::string other = write_h5_atomically(folder_ / "4.h5", [](H5File& file) {
    write_example(file);
    file.write_attribute("rate", 0.70001);
  });
  EXPECT_NE(other, one);
}

TEST_F(Hdf5, wrong_names_types_shapes_formats_and_versions_are_the_users_errors) {
  const fs::path path = folder_ / "a.h5";
  write_h5_atomically(path, write_example);
  const H5File file = H5File::open(path);
  EXPECT_THROW(file.dataset("numbers/i33"), UserError);
  EXPECT_THROW(file.dataset("numbers"), UserError);
  EXPECT_THROW(file.dataset("text/deeper"), UserError);
  EXPECT_THROW(file.group("text"), UserError);
  EXPECT_THROW(file.read<float>("numbers/i32", {2, 3}), UserError);
  EXPECT_THROW(file.read<std::int32_t>("numbers/i32", {3, 2}), UserError);
  EXPECT_THROW(file.attribute<double>("format"), UserError);
  EXPECT_THROW(file.attribute("missing"), UserError);
  EXPECT_THROW(open_h5(path, "vbon.pool", 1), UserError);
  EXPECT_THROW(open_h5(path, "vbon.example", 0), UserError);
  EXPECT_THROW(H5File::open(folder_ / "missing.h5"), UserError);
  EXPECT_THROW(H5File::open(folder_), UserError);
  write_raw(folder_ / "text.h5", "no HDF5 at all");
  EXPECT_THROW(H5File::open(folder_ / "text.h5"), UserError);
}

TEST_F(Hdf5, text_that_files_cannot_hold_is_refused) {
  const auto write = [&](const std::string& text) {
    write_h5_atomically(folder_ / "t.h5", [&](H5File& file) { file.write("t", std::vector<std::string>{text}); });
  };
  EXPECT_THROW(write(std::string("a\0b", 3)), UserError);
  EXPECT_THROW(write("\xFF"), UserError);
  EXPECT_EQ(num_files(), 0u);
}

TEST_F(Hdf5, a_changed_or_cut_file_is_known_before_hdf5_reads_it) {
  const fs::path path = folder_ / "a.h5";
  write_h5_atomically(path, write_example);
  const std::string good = read_file(path);
  std::string changed = good;
  changed[good.size() / 2] = static_cast<char>(changed[good.size() / 2] ^ 1);
  write_raw(path, changed);
  EXPECT_THROW(open_h5(path, "vbon.example", 1), UserError);
  write_raw(path, good.substr(0, good.size() - 1));
  EXPECT_THROW(open_h5(path, "vbon.example", 1), UserError);
  write_raw(path, std::string(512, '\n') + good.substr(512));
  EXPECT_THROW(open_h5(path, "vbon.example", 1), UserError);
  write_raw(path, good.substr(512));  // as another program would have written it
  EXPECT_NO_THROW(open_h5(path, "vbon.example", 1));
  EXPECT_THROW(open_h5(path, "vbon.example", 1, H5Trust::ours), UserError);
}

// HDF5 1.10.8 dies of some of these, and some it reads over the ends of its own memory: not in the process of the other
// tests.
TEST_F(Hdf5, a_damaged_file_of_another_program_is_refused_or_read_and_kills_nobody) {
  const fs::path path = folder_ / "a.h5";
  write_h5_atomically(path, write_example);
  const std::string good = read_file(path).substr(512);
  const auto open_many = [&] {
    std::mt19937 random(1);
    int refused = 0;
    for (int k = 0; k < 200; ++k) {
      std::string bad = good;
      for (int changes = 0; changes < 20; ++changes) bad[random() % bad.size()] = static_cast<char>(random());
      write_raw(path, bad);
      try {
        open_h5(path, "vbon.example", 1);
      } catch (const UserError&) {
        ++refused;
      }
    }
    ::_exit(refused > 100 ? 0 : 1);
  };
  EXPECT_EXIT(open_many(), testing::ExitedWithCode(0), "");
}

TEST_F(Hdf5, rows_without_values_may_be_any_number) {
  const fs::path path = folder_ / "a.h5";
  write_h5_atomically(path, [](H5File& file) {
    write_example(file);
    file.create_dataset("many", H5Type::float32, {std::int64_t{1} << 60, 0});
  });
  EXPECT_NO_THROW(open_h5(path, "vbon.example", 1));
  write_raw(path, read_file(path).substr(512));
  EXPECT_NO_THROW(open_h5(path, "vbon.example", 1));
}

TEST_F(Hdf5, a_writer_that_fails_leaves_the_old_file_and_no_temporary) {
  const fs::path path = folder_ / "a.h5";
  const std::string sha256 = write_h5_atomically(path, write_example);
  EXPECT_THROW(write_h5_atomically(path, [](H5File&) { throw UserError("stop"); }), UserError);
  EXPECT_THROW(write_h5_atomically(folder_ / "missing" / "a.h5", write_example), EnvironmentError);
  EXPECT_EQ(verify_h5(path), sha256);
  EXPECT_EQ(num_files(), 1u);
}

}  // namespace
}  // namespace vbon
