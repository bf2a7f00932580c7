#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <limits>

#include "base/file.h"
#include "base/half.h"
#include "base/json.h"

namespace thimble {
namespace {

TEST(Half, EveryHalfRoundTrips) {
  for (uint32_t h = 0; h < 0x10000; ++h) {
    const float x = HalfToFloat(static_cast<uint16_t>(h));
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(HalfToFloat(FloatToHalf(x))));
    } else {
      EXPECT_EQ(FloatToHalf(x), h);
    }
  }
}

TEST(Half, RoundsToNearestEven) {
  EXPECT_EQ(FloatToHalf(1.0f + 0x1p-11f), 0x3c00);             // a tie goes to even
  EXPECT_EQ(FloatToHalf(1.0f + 0x1p-11f + 0x1p-20f), 0x3c01);  // above the tie
  EXPECT_EQ(FloatToHalf(1.0f + 3 * 0x1p-11f), 0x3c02);
  EXPECT_EQ(FloatToHalf(65519.996f), 0x7bff);
  EXPECT_EQ(FloatToHalf(65520.0f), 0x7c00);
  EXPECT_EQ(FloatToHalf(0x1p-25f), 0x0000);
  EXPECT_EQ(FloatToHalf(-0x1.8p-25f), 0x8001);
  EXPECT_EQ(FloatToBf16(1.0f + 0x1p-8f), 0x3f80);
  EXPECT_EQ(FloatToBf16(1.0f + 3 * 0x1p-8f), 0x3f82);
}

TEST(AtomicFile, KeepsTheOldFileUnlessCommitted) {
  const std::string path = std::filesystem::temp_directory_path() / "thimble_atomic_test";
  ASSERT_TRUE(WriteFileAtomically(path, "old"));
  {
    auto file = AtomicFile::Create(path);
    ASSERT_TRUE(file);
    ASSERT_TRUE(file->Write("new"));
  }
  EXPECT_EQ(*ReadFile(path), "old");
  std::filesystem::remove(path);
}

TEST(TemporaryFile, IsGoneUnlessRenamed) {
  const std::string path = std::filesystem::temp_directory_path() / "thimble_temporary_test";
  std::string name;
  for (const bool renamed : {false, true}) {
    const TemporaryFile file(path, "a");
    name = file.path();
    EXPECT_EQ(std::filesystem::path(name).parent_path(), std::filesystem::path(path).parent_path());
    ASSERT_TRUE(WriteFileAtomically(name, "new"));
    if (renamed) {
      ASSERT_TRUE(file.RenameTo(path));
    } else {
      RemoveTemporaryFiles();
      EXPECT_FALSE(std::filesystem::exists(name));
      ASSERT_TRUE(WriteFileAtomically(name, "again"));
    }
  }
  EXPECT_FALSE(std::filesystem::exists(name));
  EXPECT_EQ(*ReadFile(path), "new");
  std::filesystem::remove(path);
  EXPECT_FALSE(TemporaryFile(path, "b").RenameTo(path));
}

TEST(AtomicFile, FullDiskIsAnErrorThatNamesTheFile) {
  auto file = AtomicFile::Create("/dev/full/x");
  ASSERT_FALSE(file);
  EXPECT_NE(file.error().message.find("/dev/full/x"), std::string::npos);
}

TEST(Json, RefusesDeepNestingAndNamesTheSource) {
  auto deep = ParseJson(std::string(1000, '['), "flag --x");
  ASSERT_FALSE(deep);
  EXPECT_NE(deep.error().message.find("flag --x"), std::string::npos);
  EXPECT_FALSE(ParseJson("{\"a\":", "f"));
  EXPECT_TRUE(ParseJson("{\"a\":[1,\"]]]\"]}", "f", 2));
}

}  // namespace
}  // namespace thimble
