// Low-rank layers that bring a rounded model's predictions back towards those of the model before rounding,
// or an adapter's on another base.
#pragma once

#include <optional>
#include <string>

#include "quant/calibration_file.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "train/trainer.h"

namespace thimble {

struct RecoverJob {
  const Model& model;  // rounded
  Teacher teacher;     // of the same vocabulary, and width where hidden states count
  const Tokenizer& tokenizer;
  const ChatTemplate* chat_template = nullptr;
  CalibrationOptions calibration;  // eight documents of ten are learned, one is kept to measure by
  PeftOptions peft = {};           // LoRA; where it starts is set here
  TrainOptions train;
  std::string output, resume;
  std::function<Status(const TrainPlan&)> on_start = {};
};

// KL(teacher || model) in nats per token of the text that is kept to measure by.
struct Recovery {
  double before = 0, after = 0;  // without and with the adapter
  std::optional<double> start;   // before the first step; not of a resumed run
  int64_t n_tokens = 0;          // of that text
  TrainSummary summary;
};

// Of the model before rounding. First in closed form: of what rounding took from each layer, the part of the
// adapter's rank that matters most to the predictions, by the teacher's calibration (Zhang et al. 2024,
// "QERA", with Fisher-weighted statistics). Then by distillation (Hinton et al. 2015).
Result<Recovery> Recover(const Context& ctx, const RecoverJob& job, const ProgressFn& progress,
                         const StepLogFn& log);

// Of an adapter on its old base, which is the teacher: by distillation from `adapter`, the same one as bound
// to job.model. job.peft does not count. Error kUnsupported: not LoRA, or of modules that some layers lack.
Result<Recovery> Rebase(const Context& ctx, const RecoverJob& job, const Adapter& adapter,
                        const ProgressFn& progress, const StepLogFn& log);

}  // namespace thimble
