// Each method of methods/, for the table in method.cc.
#pragma once

#include "train/method.h"

namespace thimble {

std::unique_ptr<Method> MakeLora(const Model& model, const PeftOptions& options);
std::unique_ptr<Method> MakePissa(const Model& model,
                                  const PeftOptions& options);  // MakeLora's, by its start
std::unique_ptr<Method> MakeDora(const Model& model, const PeftOptions& options);
std::unique_ptr<Method> MakeVera(const Model& model, const PeftOptions& options);
std::unique_ptr<Method> MakeIa3(const Model& model, const PeftOptions& options);
std::unique_ptr<Method> MakeBottleneck(const Model& model, const PeftOptions& options);
std::unique_ptr<Method> MakeBitfit(const Model& model, const PeftOptions& options);
std::unique_ptr<Method> MakeNormTuning(const Model& model, const PeftOptions& options);
std::unique_ptr<Method> MakePromptTuning(const Model& model, const PeftOptions& options);
std::unique_ptr<Method> MakePrefixTuning(const Model& model, const PeftOptions& options);
std::unique_ptr<Method> MakeFull(const Model& model, const PeftOptions& options);

}  // namespace thimble
