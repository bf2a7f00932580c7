#include "base/sha256.h"

#include <gtest/gtest.h>

namespace thimble {
namespace {

// FIPS 180-4's examples (NIST, SHA256.pdf).
TEST(Sha256Test, GivesTheStandardsExamples) {
  Sha256 one;
  one.Update("abc");
  EXPECT_EQ(one.Hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  Sha256 two;
  two.Update("abcdbcdecdefdefgefghfghighij");
  two.Update("hijkijkljklmklmnlmnomnopnopq");
  EXPECT_EQ(two.Hex(), "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(Sha256().Hex(), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

}  // namespace
}  // namespace thimble
