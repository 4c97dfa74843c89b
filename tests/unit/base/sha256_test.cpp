#include "vbon/base/sha256.hpp"

#include <gtest/gtest.h>

#include "vbon/base/error.hpp"
#include "vbon/base/files.hpp"

namespace vbon {
namespace {

TEST(Sha256, matches_the_published_vectors) {
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(Sha256().update("a").update("bc").hex(), sha256_hex("abc"));
  EXPECT_EQ(sha256_prefix64(sha256_hex("abc")), 0xba7816bf8f01cfeaull);
}

TEST(Sha256, of_a_file_equals_that_of_its_content) {
  const fs::path path = fs::path(testing::TempDir()) / "sha256_test.bin";
  const std::string content(3'000'001, 'x');
  write_file_atomically(path, content);
  EXPECT_EQ(sha256_file(path), sha256_hex(content));
  EXPECT_THROW(sha256_file(path.string() + ".missing"), UserError);
}

}  // namespace
}  // namespace vbon
