// Small files for the tests of the formats, and ways to damage them.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/random.h"
#include "base/result.h"

namespace thimble {

// A folder of its own for each test, removed at its end.
class FormatsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const auto* info = ::testing::UnitTest::GetInstance()->current_test_info();
    directory_ = ::testing::TempDir() + "thimble-" + info->test_suite_name() + "-" + info->name() + "-" +
                 std::to_string(::getpid());
    std::filesystem::create_directories(directory_);
  }
  void TearDown() override { std::filesystem::remove_all(directory_); }

  std::string Path(const std::string& name) const { return directory_ + "/" + name; }
  std::string Write(const std::string& name, std::string_view content) const {
    EXPECT_TRUE(WriteFileAtomically(Path(name), content));
    return Path(name);
  }

  std::string directory_;
};

// Every error must name the file and say something.
inline void ExpectNamesFile(const Error& error, const std::string& path) {
  EXPECT_NE(error.message.find(path), std::string::npos) << error.message;
  EXPECT_GT(error.message.size(), path.size() + 5);
}

// Without the temporary name and the sync, which thousands of damaged files would wait for.
inline void Overwrite(const std::string& path, std::string_view content) {
  std::ofstream(path, std::ios::binary | std::ios::trunc)
      .write(content.data(), static_cast<long>(content.size()));
}

// Calls `load` after each of `count` changes of one byte, at random places and to random values.
inline void ForEachCorruption(const std::string& path, const std::string& whole, int count,
                              const std::function<void()>& load) {
  Random random(1);
  for (int i = 0; i < count; ++i) {
    std::string damaged = whole;
    char& byte = damaged[random.Below(whole.size())];
    byte = static_cast<char>(static_cast<uint8_t>(byte) ^ (1 + random.Below(255)));
    Overwrite(path, damaged);
    load();
  }
}

// Calls `load` for the file cut after each of its bytes.
inline void ForEachTruncation(const std::string& path, const std::string& whole,
                              const std::function<void(size_t)>& load) {
  for (size_t size = 0; size < whole.size(); ++size) {
    Overwrite(path, std::string_view(whole).substr(0, size));
    load(size);
  }
}

}  // namespace thimble
