#include "train/tensorboard.h"

#include <unistd.h>

#include <array>
#include <bit>
#include <chrono>
#include <filesystem>

namespace thimble {
namespace {

double Now() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

// Protocol buffers' wire format: a tag is field * 8 + kind.
void PutVarint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out.push_back(static_cast<char>(value | 0x80));
  out.push_back(static_cast<char>(value));
}
template <typename T>
void PutFixed(std::string& out, T value) {
  for (size_t i = 0; i < sizeof(T); ++i) out.push_back(static_cast<char>(value >> (8 * i)));
}
void PutBytes(std::string& out, int field, std::string_view bytes) {
  PutVarint(out, static_cast<uint64_t>(field) * 8 + 2);
  PutVarint(out, bytes.size());
  out += bytes;
}

// An Event (tensorflow/core/util/event.proto): wall_time = 1, step = 2.
std::string Event(int64_t step) {
  std::string event;
  PutVarint(event, 1 * 8 + 1);
  PutFixed(event, std::bit_cast<uint64_t>(Now()));
  PutVarint(event, 2 * 8 + 0);
  PutVarint(event, static_cast<uint64_t>(step));
  return event;
}

uint32_t Masked(std::string_view bytes) {
  const uint32_t crc = Crc32c(bytes);
  return std::rotr(crc, 15) + 0xa282ead8u;
}

}  // namespace

uint32_t Crc32c(std::string_view bytes) {
  static const std::array<uint32_t, 256> table = [] {
    std::array<uint32_t, 256> made{};
    for (uint32_t i = 0; i < 256; ++i) {
      uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
      made[i] = crc;
    }
    return made;
  }();
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = crc >> 8 ^ table[(crc ^ static_cast<uint8_t>(c)) & 0xff];
  return ~crc;
}

Result<TensorBoardLog> TensorBoardLog::Open(const std::string& directory) {
  std::error_code ec;
  std::filesystem::create_directories(directory, ec);
  if (ec) return MakeError(ErrorCode::kIo, "{}: cannot create the folder: {}", directory, ec.message());
  const std::string path =
      fmt::format("{}/events.out.tfevents.{}.{}", directory, static_cast<int64_t>(Now()), getpid());
  std::ofstream file(path, std::ios::binary);
  if (!file) return MakeError(ErrorCode::kIo, "{}: cannot write", path);
  TensorBoardLog log(std::move(file));
  std::string event = Event(0);
  PutBytes(event, 3, "brain.Event:2");  // file_version
  log.Write(event);
  return log;
}

void TensorBoardLog::Append(int64_t step, std::string_view tag, double value) {
  std::string scalar, summary, event = Event(step);
  PutBytes(scalar, 1, tag);
  PutVarint(scalar, 2 * 8 + 5);  // simple_value
  PutFixed(scalar, std::bit_cast<uint32_t>(static_cast<float>(value)));
  PutBytes(summary, 1, scalar);
  PutBytes(event, 5, summary);
  Write(event);
}

// A record (tensorflow/core/lib/io/record_writer.h).
void TensorBoardLog::Write(const std::string& event) {
  std::string length, record;
  PutFixed(length, uint64_t{event.size()});
  record = length;
  PutFixed(record, Masked(length));
  record += event;
  PutFixed(record, Masked(event));
  file_.write(record.data(), static_cast<std::streamsize>(record.size())).flush();
}

}  // namespace thimble
