#include "text/byte_alphabet.h"

#include <array>

#include "text/utf8.h"

namespace thimble {
namespace {

// Printable bytes of Latin-1 stand for themselves, the others for U+0100 and on, in order.
constexpr char32_t kAlphabetEnd = 256 + 68;

constexpr std::array<char32_t, 256> MakeAlphabet() {
  std::array<char32_t, 256> out{};
  char32_t next = 256;
  for (char32_t b = 0; b < 256; ++b) {
    const bool printable = (b >= '!' && b <= '~') || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    out[b] = printable ? b : next++;
  }
  return out;
}
constexpr std::array<char32_t, 256> kAlphabet = MakeAlphabet();

constexpr std::array<int, kAlphabetEnd> MakeInverse() {
  std::array<int, kAlphabetEnd> out{};
  for (int& b : out) b = -1;
  for (int b = 0; b < 256; ++b) out[kAlphabet[static_cast<size_t>(b)]] = b;
  return out;
}
constexpr std::array<int, kAlphabetEnd> kInverse = MakeInverse();

}  // namespace

std::string ByteToAlphabet(unsigned char byte) {
  std::string out;
  AppendUtf8(out, kAlphabet[byte]);
  return out;
}

std::string BytesToAlphabet(std::string_view bytes) {
  std::string out;
  for (char b : bytes) AppendUtf8(out, kAlphabet[static_cast<unsigned char>(b)]);
  return out;
}

std::optional<std::string> AlphabetToBytes(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Utf8Char c = DecodeUtf8(text);
    if (c.kind != Utf8Char::kValid || c.code >= kAlphabetEnd || kInverse[c.code] < 0) return std::nullopt;
    out += static_cast<char>(kInverse[c.code]);
    text.remove_prefix(static_cast<size_t>(c.length));
  }
  return out;
}

}  // namespace thimble
