#include <fmt/core.h>

#include <algorithm>
#include <numeric>

#include "apps/common.h"

namespace thimble {
namespace {

// The best `n` ids of a row of logits, best first.
Json TopLogits(const float* row, int64_t vocab, int64_t n, int64_t position) {
  std::vector<int32_t> order(static_cast<size_t>(vocab));
  std::iota(order.begin(), order.end(), 0);
  n = std::min(n, vocab);
  std::partial_sort(order.begin(), order.begin() + n, order.end(),
                    [row](int32_t a, int32_t b) { return row[a] != row[b] ? row[a] > row[b] : a < b; });
  Json ids = Json::array(), logits = Json::array();
  for (int64_t i = 0; i < n; ++i) {
    ids.push_back(order[i]);
    logits.push_back(row[order[i]]);
  }
  return {{"position", position}, {"ids", ids}, {"logits", logits}};
}

}  // namespace

void AddLogits(CLI::App& app) {
  struct Flags {
    std::string model, positions = "last";
    std::vector<int32_t> ids;
    int64_t top = 10;
    bool json = false;
    ComputeFlags compute;
    AdapterFlags adapters;
  };
  auto* command = app.add_subcommand("logits", "Print the largest logits after given token ids");
  auto flags = std::make_shared<Flags>();
  command->add_option("MODEL", flags->model, "GGUF file or Hugging Face folder")->required();
  command->add_option("--ids", flags->ids, "Ids with commas between them")->required()->delimiter(',');
  command->add_option("--positions", flags->positions, "all or last")
      ->check(CLI::IsMember({"all", "last"}))
      ->capture_default_str();
  command->add_option("--top", flags->top, "How many per position")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command->add_flag("--json", flags->json, "A JSON array of {position, ids, logits}");
  flags->adapters.Add(*command);
  flags->compute.Add(*command);
  command->callback(Runs([flags]() -> Status {
    ASSIGN_OR_RETURN(const Context ctx, flags->compute.MakeContext());
    ASSIGN_OR_RETURN(const std::unique_ptr<Model> model, Model::Load(flags->model));
    ASSIGN_OR_RETURN(const LoadedAdapters adapters, LoadAdapters(flags->adapters.paths, *model));
    for (int32_t id : flags->ids) {
      if (id < 0 || id >= model->config().vocab_size) {
        return MakeError(ErrorCode::kInvalidArgument, "--ids: {} is outside the vocabulary of {}", id,
                         model->config().vocab_size);
      }
    }
    const Tensor hidden = ForwardHidden(ctx, *model, {.tokens = flags->ids, .adapters = adapters.applied});
    const Tensor logits = Logits(ctx, *model, hidden);
    Json out = Json::array();
    for (int64_t i = flags->positions == "all" ? 0 : logits.rows() - 1; i < logits.rows(); ++i) {
      out.push_back(TopLogits(logits.row(i), logits.cols(), flags->top, i));
    }
    if (flags->json) {
      fmt::print("{}\n", DumpJson(out));
      return {};
    }
    for (const Json& row : out) {
      for (size_t i = 0; i < row["ids"].size(); ++i) {
        fmt::print("{}\t{}\t{:.5f}\n", row["position"].get<int64_t>(), row["ids"][i].get<int32_t>(),
                   row["logits"][i].get<float>());
      }
    }
    return {};
  }));
}

}  // namespace thimble
