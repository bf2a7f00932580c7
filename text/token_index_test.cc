#include "text/token_index.h"

#include <gtest/gtest.h>

#include <unordered_map>

#include "base/random.h"

namespace thimble {
namespace {

TEST(TokenIndexTest, FindsWhatAMapFinds) {
  Random random(1);
  std::vector<std::string> tokens;
  for (int i = 0; i < 5000; ++i) {  // short ones, many of them twice, and the empty one
    std::string text;
    for (uint64_t n = random.Below(4); n > 0; --n) text += static_cast<char>('a' + random.Below(12));
    tokens.push_back(text);
  }
  TokenIndex index(tokens);
  std::unordered_map<std::string, TokenId> expected;
  for (TokenId id = 0; id < static_cast<TokenId>(tokens.size()); id += 2) {
    const auto [it, added] = expected.emplace(tokens[static_cast<size_t>(id)], id);
    ASSERT_EQ(index.Add(id), added ? -1 : it->second);
  }
  for (const std::string& text : tokens) {
    const auto it = expected.find(text);
    ASSERT_EQ(index.Find(text), it == expected.end() ? -1 : it->second) << text;
  }
}

TEST(TokenIndexTest, AnEmptyOneHasNothing) {
  EXPECT_EQ(TokenIndex().Find("a"), -1);
  const std::vector<std::string> one{"a"};
  TokenIndex index(one);
  EXPECT_EQ(index.Find("a"), -1);
  EXPECT_EQ(index.Add(0), -1);
  EXPECT_EQ(index.Find("a"), 0);
  EXPECT_EQ(index.Find(""), -1);
}

}  // namespace
}  // namespace thimble
