#include "formats/string_list.h"

#include <gtest/gtest.h>

namespace thimble {
namespace {

TEST(StringListTest, KeepsStringsApart) {
  const std::vector<std::string> strings{"", "a", "", "bc", std::string("\0x", 2), "", "d"};
  StringList list;
  EXPECT_TRUE(list.empty());
  for (const std::string& text : strings) list.Add(text);
  ASSERT_EQ(list.size(), strings.size());
  for (size_t i = 0; i < strings.size(); ++i) EXPECT_EQ(list[i], strings[i]) << i;
  EXPECT_EQ(list.ToVector(), strings);
  EXPECT_EQ(list, StringList(strings));
  EXPECT_NE(list, StringList(std::vector<std::string>{"", "a", "", "b", std::string("c\0x", 3), "", "d"}));
}

}  // namespace
}  // namespace thimble
