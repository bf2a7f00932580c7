// A GGUF with random weights in a real model's shape, to measure speed on: random_model 1B Q4_0
// build/1b.q4_0.gguf
#include <fmt/core.h>

#include "eval/random_model.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    fmt::print(stderr, "usage: random_model SHAPE TYPE OUT.gguf\nshapes:");
    for (const auto& shape : thimble::RandomModelShapes())
      fmt::print(stderr, " {} ({})", shape.name, shape.like);
    fmt::print(stderr, "\ntypes: as thimble quantize --type has them\n");
    return 2;
  }
  thimble::Status written;
  if (const auto shape = thimble::FindRandomModelShape(argv[1])) {
    written = thimble::WriteRandomModel(**shape, argv[2], argv[3]);
  } else {
    written = tl::unexpected(shape.error());
  }
  if (!written) fmt::print(stderr, "random_model: {}\n", written.error().message);
  return written ? 0 : 1;
}
