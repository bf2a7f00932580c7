// How much memory a run will take, before its first step.
#pragma once

#include <cstdint>

#include "train/trainer.h"

namespace thimble {

// The most resident memory that the process is expected to reach, in bytes: what it has already, with the
// model's weights read and packed, and what the largest batch's activations, gradients and logits add. From
// what two short sequences take, since tensors grow in proportion to tokens.
struct MemoryPlan {
  int64_t plain = 0;              // every layer's activations kept
  int64_t checkpointed = 0;       // with TrainOptions::grad_checkpoint
  int64_t integer_gradients = 0;  // more where these are wanted and can be had
};
MemoryPlan PlanMemory(Trainer& trainer, const Dataset& data, const TrainOptions& options);

}  // namespace thimble
