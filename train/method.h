// A method of parameter-efficient fine-tuning: which numbers are trained, and what adapter they make.
// docs/training.md says how to add one.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "base/result.h"
#include "model/adapter.h"
#include "model/model.h"
#include "train/low_rank.h"

namespace thimble {

// What LoRA's B A is before the first step.
enum class LoraStart {
  kZero,      // A random, B zero
  kPissa,     // the weight's largest part of the rank, which is taken out of the frozen weight (Meng et al.
              // 2024)
  kResidual,  // what rounding took away, as far as the rank goes (LoftQ, Li et al. 2023, with the base as it
              // is)
};
std::optional<LoraStart> ParseLoraStart(std::string_view name);

struct PeftOptions {
  std::string method = "lora";  // a name in Methods()
  int64_t rank = 8;
  double alpha = 16;
  double dropout = 0;  // of what goes into A
  bool rslora = false;
  double loraplus_lr_ratio = 1;  // LoRA+ (Hayou et al. 2024): B learns so many times faster than A
  LoraStart start = LoraStart::kZero;
  // For kResidual, while CreateMethod runs: the model before rounding, of the same shapes; and in which norm
  // what is left is least, by default Frobenius' own. Called for a layer's modules one after another.
  const Model* unquantized = nullptr;
  std::function<Result<ErrorNorm>(int64_t layer, Slot slot)> norm = {};
  int64_t n_virtual_tokens = 20;
  int64_t bottleneck_size = 64;
  // Short names ("q_proj"), or "all-linear"; empty means the method's usual ones.
  std::vector<std::string> target_modules;
};

// Numbers that are trained, or in Method::Saved only kept, and how a PEFT folder holds them.
struct Parameter {
  std::string name;            // in adapter_model.safetensors
  std::vector<int64_t> shape;  // there; as many numbers as in `value`
  Tensor value;
  // The file's row i of n_rows is row order(i) of `value`; empty where they are the same.
  RowOrder order;
  int64_t n_rows = 1;
  float offset = 0;          // the file's numbers are so much less
  double learning_rate = 1;  // times the run's
};

class Method {
 public:
  virtual ~Method() = default;
  Method(const Model& model, const PeftOptions& options);
  // Makes the parameters. Error kInvalidArgument where the options do not fit the method or the model.
  virtual Status Initialize(const Context& ctx, uint64_t seed) = 0;

  const PeftOptions& options() const { return options_; }
  const std::vector<Parameter>& parameters() const { return parameters_; }
  const Model& base() const { return model_; }
  // What the forward pass runs, and what it applies to that.
  virtual const Model& model() const { return model_; }
  const Adapter& adapter() const { return adapter_; }
  int64_t n_parameters() const;

  // For methods whose adapter's tensors are made from the parameters, rather than being them: makes them, and
  // takes their gradients back to the parameters, where it adds them.
  virtual void UpdateAdapter(const Context& /*ctx*/) {}
  virtual void PassGradients(const Context& /*ctx*/) {}

  // What Save writes beside the tensors.
  void set_notes(AdapterNotes notes) { notes_ = std::move(notes); }
  // A folder that PEFT reads, and the parameters from such a folder; their shapes must agree.
  virtual Status Save(const std::string& directory) const;
  virtual Status Load(const std::string& directory);
  // What was saved there, as --adapter or MODEL takes it.
  virtual std::string SavedPath(const std::string& directory) const { return directory; }

 protected:
  // adapter_config.json without what all methods have.
  virtual Json Config() const = 0;
  // What a folder holds; Load fills it.
  virtual std::vector<Parameter> Saved() const { return parameters_; }

  // PEFT's name of a linear layer: "base_model.model.model.layers.0.self_attn.q_proj"
  std::string ModuleName(int64_t layer, Slot slot) const;
  const Weight& weight(int64_t layer, Slot slot) const;
  // The linear layers that are adapted: options().target_modules, or `usual` where these are empty. Where a
  // method has no usual ones, none can be asked for.
  const std::vector<Slot>& targets() const { return targets_; }
  std::vector<std::string> TargetNames() const;
  static std::vector<Slot> AllLinearSlots();
  Status ChooseTargets(std::span<const Slot> usual);
  AdapterModule& module(int64_t layer, Slot slot);
  // [rows, cols], uniform in +-bound.
  static Tensor Uniform(int64_t rows, int64_t cols, double bound, Random& random);
  // With `value` trained from now on.
  void AddParameter(Parameter parameter);
  // As the file has them.
  static std::vector<float> FileValues(const Parameter& parameter);
  // Fills the parameters, which are all that an adapter's folder holds.
  static Status ReadFolder(const std::string& directory, std::span<const Parameter> parameters);
  // From the file's tensors, which `source` names in errors.
  static Status Fill(const std::string& source, std::span<const Parameter> parameters,
                     const TensorTable& tensors);

  const Model& model_;
  const PeftOptions options_;
  Adapter adapter_;

 private:
  std::vector<Parameter> parameters_;
  std::vector<Slot> targets_;
  AdapterNotes notes_;
};

struct MethodRow {
  std::string_view name, what;
  enum Heeds { kNothing = 0, kRank = 1, kLora = 2, kVirtualTokens = 4, kBottleneck = 8, kStart = 16 };
  int heeds;  // which of the options, as a sum: rank, LoRA's others, n_virtual_tokens, bottleneck_size, start
  std::unique_ptr<Method> (*make)(const Model& model, const PeftOptions& options);
};
std::span<const MethodRow> Methods();
const MethodRow* FindMethod(std::string_view name);  // or null
// Initialized; an unknown method is an error too.
Result<std::unique_ptr<Method>> CreateMethod(const Context& ctx, const Model& model,
                                             const PeftOptions& options, uint64_t seed);

}  // namespace thimble
