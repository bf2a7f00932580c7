// llama.cpp in a process of its own, through its C functions, so that its memory and its start can be
// measured without a Python around it. Built by tools/setup_peers.sh against llama-cpp-python's libraries;
// driven by bench/peers.py.
//
//   llama_peer system-info
//   llama_peer serve MODEL.gguf THREADS N_CTX REPACK(0|1)     then lines "pp N" or "tg N" on standard input;
//   each is
//       answered with "TOKENS_PER_SECOND PEAK_RSS_BYTES", measured as llama-bench does: random tokens from an
//       empty cache
//   llama_peer first MODEL.gguf THREADS N_CTX REPACK PROMPT   reads the prompt, writes one token and ends
#include <sys/resource.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "llama.h"

namespace {

[[noreturn]] void Fail(const std::string& what) {
  std::fprintf(stderr, "llama_peer: %s\n", what.c_str());
  std::exit(1);
}

struct Llama {
  llama_model* model;
  llama_context* context;
  const llama_vocab* vocab;

  Llama(const char* path, int threads, uint32_t n_ctx, bool repack) {
    llama_model_params model_params = llama_model_default_params();
    model_params.n_gpu_layers = 0;
    model_params.use_extra_bufts = repack;  // weights repacked for the CPU's kernels
    model = llama_model_load_from_file(path, model_params);
    if (model == nullptr) Fail(std::string("can't load ") + path);
    llama_context_params params = llama_context_default_params();
    params.n_ctx = params.n_batch = n_ctx;
    params.n_ubatch = std::min<uint32_t>(n_ctx, 512);
    params.n_threads = params.n_threads_batch = threads;
    params.no_perf = true;
    context = llama_init_from_model(model, params);
    if (context == nullptr) Fail(std::string("can't make a context for ") + path);
    vocab = llama_model_get_vocab(model);
  }
  ~Llama() {
    llama_free(context);
    llama_model_free(model);
  }
  Llama(const Llama&) = delete;
  Llama& operator=(const Llama&) = delete;

  void Decode(llama_token* tokens, int n) {
    if (llama_decode(context, llama_batch_get_one(tokens, n)) != 0) Fail("llama_decode failed");
  }
};

double Run(Llama& llama, bool prompt, int n) {
  std::mt19937 random(0);
  std::vector<llama_token> tokens(n);
  for (llama_token& token : tokens)
    token = static_cast<llama_token>(random() % llama_vocab_n_tokens(llama.vocab));
  llama_memory_clear(llama_get_memory(llama.context), true);
  const auto begin = std::chrono::steady_clock::now();
  if (prompt) {
    llama.Decode(tokens.data(), n);
  } else {
    for (llama_token& token : tokens) llama.Decode(&token, 1);
  }
  llama_synchronize(llama.context);
  return n / std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void Serve(Llama& llama) {
  char what[8];
  for (int n; std::scanf("%7s %d", what, &n) == 2;) {
    const double rate = Run(llama, std::strcmp(what, "pp") == 0, n);
    rusage usage{};
    getrusage(RUSAGE_SELF, &usage);
    std::printf("%.3f %lld\n", rate, static_cast<long long>(usage.ru_maxrss) * 1024);
    std::fflush(stdout);
  }
}

void First(Llama& llama, const std::string& prompt) {
  std::vector<llama_token> tokens(prompt.size() + 8);
  const int n = llama_tokenize(llama.vocab, prompt.data(), static_cast<int>(prompt.size()), tokens.data(),
                               static_cast<int>(tokens.size()), true, false);
  if (n <= 0) Fail("llama_tokenize failed");
  llama.Decode(tokens.data(), n);
  const float* logits = llama_get_logits_ith(llama.context, -1);
  const auto best = std::max_element(logits, logits + llama_vocab_n_tokens(llama.vocab)) - logits;
  char text[256];
  const int length =
      llama_token_to_piece(llama.vocab, static_cast<llama_token>(best), text, sizeof(text), 0, false);
  std::printf("%.*s\n", std::max(0, length), text);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string mode = argc > 1 ? argv[1] : "";
  llama_log_set(
      [](ggml_log_level level, const char* text, void*) {
        if (level == GGML_LOG_LEVEL_ERROR) std::fputs(text, stderr);
      },
      nullptr);
  llama_backend_init();
  if (mode == "system-info") {
    std::printf("%s\n", llama_print_system_info());
    return 0;
  }
  if (!(mode == "serve" && argc == 6) && !(mode == "first" && argc == 7))
    Fail("usage: see the head of llama_peer.cc");
  Llama llama(argv[2], std::atoi(argv[3]), static_cast<uint32_t>(std::atoi(argv[4])),
              std::atoi(argv[5]) != 0);
  if (mode == "serve") {
    Serve(llama);
  } else {
    First(llama, argv[6]);
  }
}
