// The model that fits a budget: calibration, what each tensor costs in each type, the choice, the file, the
// proof.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/progress.h"
#include "eval/saved_reference.h"
#include "quant/calibration_file.h"
#include "quant/export_plan.h"
#include "quant/solver.h"

namespace thimble {

// What must hold; at least one. Bytes bound the choice, the others are reached with the least bytes.
struct FitGoal {
  std::optional<uint64_t> file_bytes;
  std::optional<uint64_t> ram_bytes;      // weights, keys and values of n_ctx tokens, and the program
  std::optional<double> bits_per_weight;  // of the whole model
  std::map<std::string, double> max_kld;  // nats per token by a part of the texts; "": over all
  std::optional<double> min_top1;         // share of positions with the same most likely token
};

struct FitOptions {
  double max_seconds = 0;          // about, of Fit::Prepare; 0: as long as it takes. Half at most calibrate
  CalibrationOptions calibration;  // and the texts and windows of all scores
  int64_t ram_ctx = 4096;          // tokens of keys and values that ram_bytes counts
  std::optional<KvTypes> kv;       // absent: chosen with the weights where ram_bytes is given, else F16
  bool native = false;             // Thimble's own types as well, which other programs do not read
  std::vector<WeightType> types;   // that tensors may get; empty: all of GGUF's, and the native if so
};

// How far a file is from the reference on one part of the texts, or on all.
struct PartScore {
  std::string part;
  int64_t n_tokens = 0;
  double kld = 0, kld_se = 0, top1 = 0, ppl_ratio = 0;
};

struct FitResult {
  TypeChoice choice;
  ExportStats stats;
  KvTypes kv;
  double predicted_kld = 0;        // with int8 activations and the cache's type
  double activation_kld = 0;       // the share of int8 activations
  std::vector<double> tensor_kld;  // the share of each of the plan's tensors
  uint64_t file_bytes = 0, ram_bytes = 0;
  // All first, then by part. `selection` is empty where nothing was chosen by measuring it and there is text
  // to score on.
  std::vector<PartScore> selection, scoring;
};

class Fit {
 public:
  // Calibrates and measures costs, or finds both in the cache.
  static Result<std::unique_ptr<Fit>> Prepare(const Context& ctx, const std::string& model_path,
                                              const FitOptions& options, const ProgressFn& progress);
  ~Fit();

  // Chooses, writes `out` and measures it; where the goal is a measured one, again until it holds. Error
  // kNotFound if nothing fits: the message says what the smallest choice takes.
  Result<FitResult> Run(const FitGoal& goal, const std::string& out, const ProgressFn& progress);

  const std::vector<TensorCosts>& costs() const;
  const ExportPlan& plan() const;
  // As a whole file's bytes, and its expected KL divergence with int8 activations.
  struct FrontPoint {
    uint64_t file_bytes;
    double kld;
  };
  std::vector<FrontPoint> Front(int points) const;
  // Every matrix in one type, or where its rows cannot hold that, in the type nearest to it in size; of all
  // types that a matrix can have.
  struct TypePoint {
    WeightType type;
    int64_t n_other = 0;  // matrices in another type
    FrontPoint point;
  };
  std::vector<TypePoint> TypePoints() const;
  std::string cache_path() const;  // of this model's and these texts' folder

 private:
  struct State;
  explicit Fit(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace thimble
