#include "eval/recover.h"

#include <algorithm>
#include <cmath>

#include "model/adapter.h"
#include "ops/elementwise.h"
#include "quant/convert_adapter.h"
#include "quant/hessian.h"

namespace thimble {
namespace {

// In which errors of a layer's weights count as in the calibration's statistics.
class CalibratedNorm {
 public:
  CalibratedNorm(const Context& ctx, const RecoverJob& job, const CalibrationFile& calibration)
      : ctx_(ctx), job_(job), calibration_(calibration) {}

  Result<ErrorNorm> operator()(int64_t layer, Slot slot) const {
    const std::string name = LayerName(FindRow(*job_.model.config().arch, slot)->gguf, layer);
    ASSIGN_OR_RETURN(const LayerStatistics statistics, calibration_.Read(name));
    ASSIGN_OR_RETURN(const HessianFactor factor, Factorize(ctx_.pool, ctx_.kernels, statistics.hessian));
    const int64_t n = factor.n;
    ErrorNorm norm{Tensor::Empty(1, std::ssize(statistics.row_weights)), Tensor::Zeros(n, n)};
    for (int64_t i = 0; i < n; ++i) {
      const float diagonal = factor.diagonal[static_cast<size_t>(i)];
      norm.input_factor.row(i)[i] = diagonal;
      for (int64_t j = 0; j < i; ++j) {
        norm.input_factor.row(j)[i] = factor.feedback[static_cast<size_t>(i * n + j)] * diagonal;
      }
    }
    // Rows that nothing depends on must not be divided by.
    constexpr float kLeast = 1e-3f;
    const RowOrder mine = PeftRowOrder(job_.model, slot), its = PeftRowOrder(job_.teacher.model, slot);
    for (int64_t i = 0; i < norm.row_roots.cols(); ++i) {
      const float weight = statistics.row_weights[static_cast<size_t>(its(i))];
      norm.row_roots.data()[mine(i)] = std::sqrt(std::max(weight, kLeast));
    }
    return norm;
  }

 private:
  const Context& ctx_;
  const RecoverJob& job_;
  const CalibrationFile& calibration_;
};

// Windows of the texts' documents of one purpose, each an example of which every token is learned.
Result<Dataset> DatasetOf(const RecoverJob& job, TextPurpose purpose) {
  std::vector<std::vector<std::vector<TokenId>>> parts;
  for (const TextPart& text : job.calibration.texts) {
    ASSIGN_OR_RETURN(auto windows,
                     Windows(Deal(text, purpose), job.tokenizer, job.chat_template, job.calibration.n_ctx));
    parts.push_back(std::move(windows));
  }
  Dataset data;
  for (auto& window : TakeEvenly(parts, job.calibration.max_tokens)) {
    Example example{.tokens = std::move(window), .labels = {}};
    example.labels.assign(example.tokens.begin() + 1, example.tokens.end());
    example.labels.push_back(-1);
    data.n_tokens += std::ssize(example.tokens);
    data.n_labels += std::ssize(example.tokens) - 1;
    data.examples.push_back(std::move(example));
  }
  if (data.examples.empty()) {
    return MakeError(ErrorCode::kInvalidArgument, "the calibration text is too short: nothing is left {}",
                     purpose == TextPurpose::kCalibration ? "to learn" : "to measure by");
  }
  return data;
}

Result<double> DivergenceWithoutAdapter(const Context& ctx, const RecoverJob& job, const Dataset& data) {
  ASSIGN_OR_RETURN(const auto nothing, CreateMethod(ctx, job.model, {.rank = 1}, 1));
  return Trainer(ctx, *nothing, job.train, &job.teacher).Evaluate(EvalBatches(data, job.train));
}

Status CheckTeacher(const RecoverJob& job) {
  const Model& teacher = job.teacher.model;
  const ModelConfig &its = teacher.config(), &mine = job.model.config();
  if (its.vocab_size != mine.vocab_size) {
    return MakeError(ErrorCode::kInvalidArgument, "{} has {} tokens in its vocabulary, {} has {}",
                     teacher.file().path, its.vocab_size, job.model.file().path, mine.vocab_size);
  }
  if (job.teacher.hidden_weight > 0 && its.d_model != mine.d_model) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "the hidden states of {} have {} numbers, those of {} have {}", teacher.file().path,
                     its.d_model, job.model.file().path, mine.d_model);
  }
  return {};
}

Result<Recovery> Distil(const Context& ctx, const RecoverJob& job, const Dataset& data, Method& method,
                        const ProgressFn& progress, const StepLogFn& log) {
  ASSIGN_OR_RETURN(const Dataset kept, DatasetOf(job, TextPurpose::kSelection));
  Recovery recovery{.n_tokens = kept.n_labels};
  ASSIGN_OR_RETURN(recovery.before, DivergenceWithoutAdapter(ctx, job, kept));
  ASSIGN_OR_RETURN(recovery.summary, Train(ctx,
                                           {.method = method,
                                            .data = data,
                                            .eval_data = &kept,
                                            .options = job.train,
                                            .output = job.output,
                                            .resume = job.resume,
                                            .teacher = &job.teacher,
                                            .on_start = job.on_start},
                                           progress, log));
  recovery.start = recovery.summary.eval_loss_before;
  recovery.after = *recovery.summary.eval_loss;
  return recovery;
}

}  // namespace

Result<Recovery> Recover(const Context& ctx, const RecoverJob& job, const ProgressFn& progress,
                         const StepLogFn& log) {
  RETURN_IF_ERROR(CheckTeacher(job));
  ASSIGN_OR_RETURN(const Dataset data, DatasetOf(job, TextPurpose::kCalibration));
  ASSIGN_OR_RETURN(
      const CachedCalibration calibrated,
      CalibrateOrLoad(ctx, job.teacher.model, job.tokenizer, job.chat_template, job.calibration, progress));
  PeftOptions peft = job.peft;
  peft.start = LoraStart::kResidual;
  peft.unquantized = &job.teacher.model;
  peft.norm = CalibratedNorm(ctx, job, calibrated.calibration);
  ASSIGN_OR_RETURN(const auto method, CreateMethod(ctx, job.model, peft, job.train.seed));
  return Distil(ctx, job, data, *method, progress, log);
}

Result<Recovery> Rebase(const Context& ctx, const RecoverJob& job, const Adapter& adapter,
                        const ProgressFn& progress, const StepLogFn& log) {
  RETURN_IF_ERROR(CheckTeacher(job));
  if (!adapter.is_lora()) {
    return MakeError(ErrorCode::kUnsupported, "{}: only LoRA and rsLoRA adapters can be rebased",
                     adapter.name);
  }
  const PeftLoraConfig config = PeftConfigOf(adapter, job.model);
  if (!config.rank_pattern.empty()) {
    return MakeError(ErrorCode::kUnsupported, "{}: its modules have several ranks", adapter.name);
  }
  ASSIGN_OR_RETURN(const Dataset data, DatasetOf(job, TextPurpose::kCalibration));
  const PeftOptions peft{
      .rank = config.r, .alpha = config.lora_alpha, .target_modules = config.target_modules};
  ASSIGN_OR_RETURN(const auto method, CreateMethod(ctx, job.model, peft, job.train.seed));
  for (size_t layer = 0; layer < adapter.layers.size(); ++layer) {
    for (size_t s = 0; s < kNumLinearSlots; ++s) {
      const AdapterModule &from = adapter.layers[layer][s], &to = method->adapter().layers[layer][s];
      if (!from.a) continue;
      std::copy_n(from.a.data(), from.a.size(), to.a.data());
      std::copy_n(from.b.data(), from.b.size(), to.b.data());
      ScaleInPlace(to.b, from.scale / to.scale);
    }
  }
  return Distil(ctx, job, data, *method, progress, log);
}

}  // namespace thimble
