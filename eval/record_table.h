// Several runs of `thimble eval` side by side: what was taught how, what that cost and what it brought.
#pragma once

#include <string>
#include <vector>

#include "base/json.h"

namespace thimble {

// A Markdown table, a row per record (ToJson of an EvalRecord), with the columns that any of them fills:
// method, base, trained parameters, bytes of what was saved, time and peak memory of the training, and each
// score with its 95 % interval.
std::string RecordTable(const std::vector<Json>& records);

}  // namespace thimble
