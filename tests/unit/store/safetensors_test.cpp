#include "vbon/store/safetensors.hpp"

#include <cstring>

#include "temp_folder.hpp"
#include "vbon/base/error.hpp"
#include "vbon/base/sha256.hpp"

namespace vbon {
namespace {

using SafeTensorsFiles = TempFolder;

const fs::path kGolden = fs::path(VBON_TEST_DATA) / "golden/store/every_dtype.safetensors";

template <class T>
std::vector<T> values_of(const TensorView& tensor) {
  std::vector<T> values(tensor.bytes.size() / sizeof(T));
  std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

template <class T>
std::vector<T> zero_to_five() {
  return {T(0), T(1), T(2), T(3), T(4), T(5)};
}

// A file from its header and so many bytes of data.
std::string file_of(const std::string& header, std::size_t data_bytes) {
  const std::uint64_t length = header.size();
  std::string text(reinterpret_cast<const char*>(&length), 8);
  return text + header + std::string(data_bytes, '\1');
}

TEST_F(SafeTensorsFiles, a_file_of_the_formats_own_library_is_read) {
  const SafeTensors file = SafeTensors::open_file(kGolden);
  ASSERT_EQ(file.tensors().size(), 13u);
  EXPECT_EQ(file.metadata(), (std::map<std::string, std::string>{{"format", "pt"}}));
  EXPECT_EQ(values_of<double>(file.at("f64")), zero_to_five<double>());
  EXPECT_EQ(file.at("f64").shape, (std::vector<std::int64_t>{2, 3}));
  EXPECT_EQ(values_of<float>(file.at("f32")), zero_to_five<float>());
  EXPECT_EQ(file.at("f32").shape, (std::vector<std::int64_t>{3, 2}));
  EXPECT_EQ(values_of<std::uint16_t>(file.at("bf16")),
            (std::vector<std::uint16_t>{0, 0x3F80, 0x4000, 0x4040, 0x4080, 0x40A0}));
  EXPECT_EQ(values_of<std::uint16_t>(file.at("f16")),
            (std::vector<std::uint16_t>{0, 0x3C00, 0x4000, 0x4200, 0x4400, 0x4500}));
  EXPECT_EQ(values_of<std::int64_t>(file.at("i64")), zero_to_five<std::int64_t>());
  EXPECT_EQ(values_of<std::int32_t>(file.at("i32")), zero_to_five<std::int32_t>());
  EXPECT_EQ(values_of<std::int16_t>(file.at("i16")), zero_to_five<std::int16_t>());
  EXPECT_EQ(values_of<std::int8_t>(file.at("i8")), zero_to_five<std::int8_t>());
  EXPECT_EQ(values_of<std::uint8_t>(file.at("u8")), zero_to_five<std::uint8_t>());
  EXPECT_EQ(values_of<std::uint8_t>(file.at("bool")), (std::vector<std::uint8_t>{0, 1, 0, 1, 0, 1}));
  EXPECT_EQ(file.at("bool").dtype, DType::boolean);
  EXPECT_TRUE(file.at("scalar").shape.empty());
  EXPECT_EQ(values_of<float>(file.at("scalar")), std::vector<float>{1.5f});
  EXPECT_EQ(file.at("empty").num_elements(), 0);
  EXPECT_EQ(values_of<float>(file.at("layer.0.w\xC3\xA9ight"))[3], 0.75f);
}

TEST_F(SafeTensorsFiles, what_we_write_has_the_bytes_of_the_formats_own_library_in_any_order) {
  const SafeTensors golden = SafeTensors::open_file(kGolden);
  std::vector<TensorView> tensors = golden.tensors();
  std::reverse(tensors.begin(), tensors.end());
  write_safetensors(folder_ / "model.safetensors", tensors);
  EXPECT_EQ(read_file(folder_ / "model.safetensors"), read_file(kGolden));
  EXPECT_EQ(num_files(), 1u);
}

TEST_F(SafeTensorsFiles, sharded_folders_read_what_the_index_names) {
  const std::vector<float> data = {1, 2, 3, 4};
  const auto view = [&](const std::string& name, std::size_t first, std::size_t count) {
    return TensorView{name,
                      DType::f32,
                      {static_cast<std::int64_t>(count)},
                      std::as_bytes(std::span(data)).subspan(first * 4, count * 4)};
  };
  write_safetensors(folder_ / "model-00001-of-00002.safetensors", std::vector{view("a", 0, 1), view("hidden", 3, 1)});
  write_safetensors(folder_ / "model-00002-of-00002.safetensors", std::vector{view("b", 1, 2)});
  const auto index = [&](const std::string& map) {
    write_raw(folder_ / "model.safetensors.index.json",
              R"({"metadata": {"total_size": 12}, "weight_map": )" + map + "}");
  };
  index(R"({"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"})");
  const SafeTensors model = SafeTensors::open_folder(folder_);
  ASSERT_EQ(model.tensors().size(), 2u);
  EXPECT_EQ(values_of<float>(model.at("b")), (std::vector<float>{2, 3}));
  write_raw(folder_ / "config.json", "{}");
  const std::string sha256 = folder_sha256(folder_);
  EXPECT_EQ(sha256, folder_sha256(folder_, std::vector<std::string>{"vocab.json"}));
  write_raw(folder_ / "vocab.json", "{}");
  EXPECT_NE(sha256, folder_sha256(folder_, std::vector<std::string>{"vocab.json"}));
  write_raw(folder_ / "config.json", "{ }");
  EXPECT_NE(sha256, folder_sha256(folder_));

  for (const char* bad : {R"({"a": "../model.safetensors"})", R"({"a": "/etc/passwd"})", R"({"a": ".."})",
                          R"({"a": ""})", R"({"a": 3})", "{}", R"({"a": "sub/model.safetensors"})",
                          R"({"a": "missing.safetensors"})", R"({"b": "model-00001-of-00002.safetensors"})",
                          R"({"a": "model-00001-of-00002.safetensors", "a": "model-00002-of-00002.safetensors"})"}) {
    index(bad);
    EXPECT_THROW(SafeTensors::open_folder(folder_), UserError) << bad;
  }
}

TEST_F(SafeTensorsFiles, weights_of_torch_alone_name_the_converter) {
  const auto said = [&](auto&& call) {
    try {
      call();
    } catch (const UserError& error) {
      return std::string(error.what());
    }
    return std::string("accepted");
  };
  write_raw(folder_ / "config.json", "{}");
  for (const char* name : {"pytorch_model.bin.index.json", "pytorch_model.bin"}) {
    write_raw(folder_ / name, "{}");
    for (const std::string& text :
         {said([&] { SafeTensors::open_folder(folder_); }), said([&] { folder_sha256(folder_); })}) {
      EXPECT_NE(text.find(name), std::string::npos) << text;
      EXPECT_NE(text.find("jobs/convert-weights.py '" + folder_.string() + "'"), std::string::npos) << text;
    }
  }
}

TEST_F(SafeTensorsFiles, malformed_headers_are_refused) {
  const fs::path path = folder_ / "x.safetensors";
  const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  write_raw(path, file_of(good, 8));
  EXPECT_NO_THROW(SafeTensors::open_file(path));
  const std::string deep(100000, '[');
  for (
      const std::string& bad :
      {file_of(good, 7),
       file_of(good, 9),
       file_of("{}", 1),
       file_of("[]", 0),
       file_of("{", 0),
       file_of(deep, 0),
       std::string("short"),
       std::string("\xFF\xFF\xFF\xFF\xFF\xFF\xFF\x7F{}", 10),
       file_of("", 0),
       file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,16]}})", 16),  // hole
       file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", 8),    // backwards
       file_of(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", 8),    // shape
       file_of(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", 8),
       file_of(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", 8),
       file_of(R"({"a":{"dtype":"F32","shape":[4611686018427387904,8],"data_offsets":[0,0]}})", 0),  // overflow
       file_of(R"({"a":{"dtype":"F4","shape":[2],"data_offsets":[0,8]}})", 8),
       file_of(R"({"a":{"dtype":"F32","shape":[2]}})", 8),
       file_of(R"({"a":3})", 0),
       file_of(
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}})",
           12),
       file_of(
           R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})",
           8),
       file_of(
           R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}})",
           8),
       file_of(R"({"__metadata__":{"x":1}})", 0)}) {
    write_raw(path, bad);
    EXPECT_THROW(SafeTensors::open_file(path), UserError) << bad.substr(0, 120);
  }
  EXPECT_THROW(SafeTensors::open_file(folder_ / "missing"), UserError);
  EXPECT_THROW(SafeTensors::open_file(folder_), UserError);
}

TEST_F(SafeTensorsFiles, a_missing_tensor_names_the_nearest) {
  const SafeTensors file = SafeTensors::open_file(kGolden);
  EXPECT_EQ(file.find("f31"), nullptr);
  try {
    file.at("scalr");
    FAIL();
  } catch (const UserError& error) {
    EXPECT_NE(std::string(error.what()).find("'scalar'"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace vbon
