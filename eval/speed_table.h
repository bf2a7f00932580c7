// What `thimble bench` prints.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/json.h"
#include "eval/machine.h"
#include "eval/perplexity.h"
#include "eval/speed.h"

namespace thimble {

// One test of one model on some threads.
struct SpeedRow {
  std::string model;
  ModelSize size;
  PackedSize packed;
  std::string kernels, compute;
  KvTypes kv;
  int threads = 0;
  SpeedResult result;
  double bytes_per_token = 0, multiply_adds_per_token = 0;
};

// Adds a row for each test.
void AddSpeedRows(const std::string& path, const Model& model, const Context& ctx, KvTypes kv,
                  const std::vector<SpeedResult>& results, std::vector<SpeedRow>& rows);

using MachineSpeeds = std::map<int, MachineSpeed>;  // by threads

// An object per row. Keys of llama-bench's meaning have its names (n_threads, n_prompt, n_gen, samples_ts).
Json SpeedJson(const std::vector<SpeedRow>& rows, const MachineSpeeds& machines);
// Its keys as columns; lists are left out.
std::string SpeedCsv(const std::vector<SpeedRow>& rows, const MachineSpeeds& machines);
// For people: a table as llama-bench has it, with the share of the machine's bound, and the bounds below it.
std::string SpeedMarkdown(const std::vector<SpeedRow>& rows, const MachineSpeeds& machines);

}  // namespace thimble
