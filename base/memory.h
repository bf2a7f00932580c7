#pragma once

#include <cstddef>
#include <cstdint>

namespace thimble {

// High-water mark of the process's resident memory, in bytes.
int64_t PeakRssBytes();

// Asks for huge pages where memory of this size has whole ones: it is then read without waiting for address
// translations. Advice; small pages are slower, not wrong.
void AdviseHugePages(void* p, size_t bytes);

// From here on the heap keeps what is freed, and the next `expected` bytes that it hands out lie in huge
// pages. For work that takes and frees the same memory again and again, as each step of training does:
// each of the two saves some hundredths of the time.
void KeepFreedMemory(int64_t expected);

}  // namespace thimble
