// Megabytes of English text per second, single-threaded. The peer: tools/check_tokenizers.py prints it.
#include <benchmark/benchmark.h>

#include <filesystem>

#include "base/file.h"
#include "text/test_support.h"

namespace thimble {
namespace {

void Encode(benchmark::State& state, const std::string& gguf, const std::string& text_path) {
  if (!std::filesystem::exists(gguf) || !std::filesystem::exists(text_path)) {
    state.SkipWithError("the model or the text is absent");
    return;
  }
  const Tokenizer tokenizer = TokenizerOf(gguf);
  const std::string text = Unwrap(ReadFile(text_path));
  for (auto _ : state) benchmark::DoNotOptimize(tokenizer.Encode(text, true, false));
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(text.size()));
}

const std::string kText = SharedPath("data/wikitext-2/valid.txt");
BENCHMARK_CAPTURE(Encode, smollm2, ModelPath("SmolLM2-135M-Instruct.Q4_1.gguf"), kText)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Encode, gemma3, ModelPath("gemma-3-270m-Q4_K_M.gguf"), kText)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Encode, llama3, SharedPath("conformance/tokenizers/ggml-vocab-llama-bpe.gguf"), kText)
    ->Unit(benchmark::kMillisecond);
BENCHMARK_CAPTURE(Encode, llama2, SharedPath("conformance/tokenizers/ggml-vocab-llama-spm.gguf"), kText)
    ->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace thimble
