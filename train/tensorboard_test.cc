#include "train/tensorboard.h"

#include "base/file.h"
#include "model/test_support.h"

namespace thimble {
namespace {

// RFC 3720, appendix B.4.
TEST(TensorBoardTest, Crc32c) {
  EXPECT_EQ(Crc32c(std::string(32, '\0')), 0x8a9136aau);
  EXPECT_EQ(Crc32c(std::string(32, '\xff')), 0x62a8ab43u);
  std::string ascending;
  for (char c = 0; c < 32; ++c) ascending.push_back(c);
  EXPECT_EQ(Crc32c(ascending), 0x46dd794eu);
}

// The bytes but for the time, which TensorBoard's own reader takes (tools/check_tensorboard.py).
TEST(TensorBoardTest, Records) {
  TemporaryFolder folder;
  auto log = TensorBoardLog::Open(folder / "runs/a");
  ASSERT_TRUE(log) << log.error().message;
  log->Append(300, "loss", 1.5);
  const auto entry = std::filesystem::directory_iterator(folder / "runs/a");
  const auto bytes = ReadFile(entry->path().string());
  ASSERT_TRUE(bytes);
  const size_t first = 12 + 9 + 2 + 2 + 13 + 4;
  ASSERT_EQ(bytes->size(), first + 12 + 9 + 3 + 2 + 2 + 6 + 5 + 4);
  const std::string second = bytes->substr(first + 12);
  EXPECT_EQ(second.substr(9, 3), "\x10\xac\x02");
  EXPECT_EQ(second.substr(12, 15), std::string("\x2a\x0d\x0a\x0b\x0a\x04loss\x15\0\0\xc0\x3f", 15));
  const auto refused = TensorBoardLog::Open(entry->path().string() + "/below");
  EXPECT_FALSE(refused);
}

}  // namespace
}  // namespace thimble
