#include <cstdlib>
#include <string>

#include "kernels/test_support.h"

namespace thimble {
namespace {

TEST(DispatchTest, TheReferenceIsAlwaysThereAndLast) {
  const std::vector<const KernelTable*> tiers = AllTiers();
  ASSERT_FALSE(tiers.empty());
  EXPECT_EQ(std::string(tiers.back()->name), "ref");
  for (const KernelTable* tier : tiers) EXPECT_EQ(FindKernels(tier->name), tier);
  EXPECT_EQ(FindKernels("avx1024"), nullptr);
}

TEST(DispatchTest, TheEnvironmentVariableForcesATier) {
  const char* forced = std::getenv("THIMBLE_ISA");
  const KernelTable* expected =
      forced != nullptr && *forced != '\0' ? FindKernels(forced) : AllTiers().front();
  EXPECT_EQ(&Kernels(), expected);
}

TEST(DispatchDeathTest, AnUnknownTierAborts) {
  EXPECT_DEATH(
      {
        setenv("THIMBLE_ISA", "avx1024", 1);
        Kernels();
      },
      "THIMBLE_ISA=avx1024");
}

}  // namespace
}  // namespace thimble
