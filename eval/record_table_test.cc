#include "eval/record_table.h"

#include <gtest/gtest.h>

namespace thimble {
namespace {

TEST(RecordTableTest, HasTheColumnsThatAnyRecordFills) {
  const Json base = {{"name", "base"},
                     {"model", "models/a.gguf"},
                     {"ppl", nullptr},
                     {"exact_match", {{"correct", 1}, {"total", 8}, {"low", 0.02}, {"high", 0.47}}}};
  Json taught = base;
  taught["name"] = "LoRA";
  taught["exact_match"] = {{"correct", 6},
                           {"total", 8},
                           {"low", 0.41},
                           {"high", 0.93},
                           {"bleu", {{"score", 31.25}, {"low", 20}, {"high", 40.5}}}};
  taught["kld_mean"] = 0.125;
  taught["kld_se"] = 0.01;
  taught["training"] = {{"method", "lora"},       {"base", "models/b.gguf"}, {"n_parameters", 1234567},
                        {"saved_bytes", 2500000}, {"seconds", 90},           {"peak_rss_bytes", 512000000}};
  EXPECT_EQ(RecordTable({base, taught}),
            "| name | method | base | trained | saved, MB | minutes | peak, MB | exact match, % | BLEU | KL "
            "divergence |\n"
            "|---|---|---|---|---|---|---|---|---|---|\n"
            "| base |  | a.gguf |  |  |  |  | 12.5 (2.0 to 47.0) |  |  |\n"
            "| LoRA | lora | b.gguf | 1234567 | 2.50 | 1.5 | 512 | 75.0 (41.0 to 93.0) | 31.2 (20.0 to 40.5) "
            "| 0.1250 +- 0.0196 |\n");
}

}  // namespace
}  // namespace thimble
