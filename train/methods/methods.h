// Each method of methods/, for the table in method.cc.
#pragma once

#include "train/method.h"

namespace thimble {

Result<std::unique_ptr<Method>> CreateLora(const Model& model, const PeftOptions& options, uint64_t seed);
Result<std::unique_ptr<Method>> CreateDora(const Model& model, const PeftOptions& options, uint64_t seed);
Result<std::unique_ptr<Method>> CreateIa3(const Model& model, const PeftOptions& options, uint64_t seed);
Result<std::unique_ptr<Method>> CreateVera(const Model& model, const PeftOptions& options, uint64_t seed);
Result<std::unique_ptr<Method>> CreateBitfit(const Model& model, const PeftOptions& options, uint64_t seed);
Result<std::unique_ptr<Method>> CreateNormTuning(const Model& model, const PeftOptions& options,
                                                 uint64_t seed);
Result<std::unique_ptr<Method>> CreateBottleneck(const Model& model, const PeftOptions& options,
                                                 uint64_t seed);
Result<std::unique_ptr<Method>> CreatePromptTuning(const Model& model, const PeftOptions& options,
                                                   uint64_t seed);
Result<std::unique_ptr<Method>> CreatePrefixTuning(const Model& model, const PeftOptions& options,
                                                   uint64_t seed);

Result<std::unique_ptr<Method>> CreateFull(const Model& model, const PeftOptions& options, uint64_t seed);

}  // namespace thimble
