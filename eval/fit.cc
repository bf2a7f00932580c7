#include "eval/fit.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <tuple>

#include "base/clock.h"
#include "base/sha256.h"
#include "eval/expected_kld.h"
#include "eval/perplexity.h"
#include "formats/model_hash.h"
#include "quant/calibrated_rounding.h"
#include "quant/rounded_tensors.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

using enum WeightType;

constexpr int kMostRounds = 5;   // of choosing again by what was measured
constexpr double kSlack = 0.97;  // a measured goal is met closely enough
constexpr double kAim = 0.985;   // of a measured goal: the middle of what is close enough
constexpr double kLeastFactor = 0.25, kMostFactor = 4;  // of a kind's cost: more is noise
constexpr int64_t kScoredWindows = 16;                  // of all texts to choose by, and to score on
constexpr int64_t kBriefWindows = 8;  // of all texts, at least: what differs by kinds shows on few tokens
constexpr double kCoarseKld = 0.1;    // where factors of kinds are measured; beyond it little adds up
constexpr int64_t kTopK = 32;         // of the saved reference: within 0.5 % (docs/formats/tref.md)
// Of the time there is, when costs and factors of kinds are measured.
constexpr double kCalibratedUntil = 0.5, kCostsUntil = 0.75, kKindsUntil = 0.9;
// Rounded tensors are kept if they take less than 1 / this of what is free on the disk.
constexpr uint64_t kDiskShare = 4;
constexpr uint64_t kProgramBytes = 10 << 20;  // of a process beside weights, cache and vocabulary
constexpr uint64_t kVocabularyFactor = 10;    // memory that a vocabulary takes, per byte of the file's header

constexpr WeightType kPortableTypes[] = {kQ2_K,   kQ3_K,  kQ4_K,    kQ5_K,  kQ6_K,   kIQ2_XXS,
                                         kIQ2_XS, kIQ2_S, kIQ3_XXS, kIQ3_S, kIQ4_XS, kIQ4_NL,
                                         kQ4_0,   kQ4_1,  kQ5_0,    kQ5_1,  kQ8_0};
constexpr WeightType kNativeTypes[] = {kT2, kT3, kT4, kT5};
constexpr KvTypes kCaches[] = {{kF16, kF16}, {kQ8_0, kQ8_0}, {kQ4_0, kQ4_0}};

struct Part {
  std::string name;
  TokenWindows selection, scoring;
  TokenWindows brief;  // the first of `selection`
};

TokenWindows Whole(const std::vector<std::vector<TokenId>>& windows, int64_t n_ctx) {
  TokenWindows whole{.n_ctx = n_ctx, .tokens = {}};
  for (const auto& window : windows) {
    if (static_cast<int64_t>(window.size()) == n_ctx) {
      whole.tokens.insert(whole.tokens.end(), window.begin(), window.end());
    }
  }
  return whole;
}

// Of all parts together kScoredWindows, evenly, but one of each at least that has one.
void LimitWindows(std::vector<Part>& parts, TokenWindows Part::*windows) {
  std::vector<int64_t> taken(parts.size());
  int64_t left = kScoredWindows;
  for (int64_t round = 0, found = 1; found > 0; ++round) {
    found = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      if ((parts[i].*windows).size() <= round || (left <= 0 && round > 0)) continue;
      ++taken[i];
      ++found;
      --left;
    }
  }
  for (size_t i = 0; i < parts.size(); ++i) {
    TokenWindows& w = parts[i].*windows;
    w.tokens.resize(static_cast<size_t>(taken[i] * w.n_ctx));
  }
}

std::string KvName(KvTypes kv) {
  return std::string(Name(kv.k)) + "/" + Name(kv.v);
}

const std::string kAll = "all";  // parts together, in scores

std::vector<WeightType> TypesToChoose(const FitOptions& options) {
  if (!options.types.empty()) return options.types;
  std::vector<WeightType> types(std::begin(kPortableTypes), std::end(kPortableTypes));
  if (options.native) types.insert(types.end(), std::begin(kNativeTypes), std::end(kNativeTypes));
  return types;
}

bool IsMeasured(const FitGoal& goal) {
  return !goal.max_kld.empty() || goal.min_top1;
}

PartScore ScoreOf(const std::string& name, const PerplexityResult& r) {
  return {name,
          r.n_tokens,
          r.kld_mean.value_or(0),
          r.kld_se.value_or(0),
          r.top1_agreement.value_or(0),
          r.ppl / r.reference_ppl.value_or(r.ppl)};
}

}  // namespace

struct Fit::State {
  const Context& ctx;
  FitOptions options;
  std::string model_path, folder;
  std::string calibration_key, key;  // of what the calibration, and what the costs are made from
  std::unique_ptr<Model> model;
  std::optional<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
  std::vector<Part> parts;
  CalibrationFile calibration;
  ExportPlan plan;
  std::optional<RoundedTensors> rounded;  // in every type that there is to choose; absent: not kept
  ExpectedKld expected;                   // of weights
  std::optional<SavedReference> reference;
  double activation_kld = 0;
  std::map<std::string, double> kv_kld;  // by KvName
  uint64_t header_bytes = 0;             // of the file, beside tensors
  const double begin = Seconds();

  // Seconds until so much of the time is over.
  double TimeUntil(double share) const {
    return options.max_seconds > 0 ? begin + share * options.max_seconds - Seconds() : INFINITY;
  }
  std::string Path(const std::string& name) const { return folder + "/" + name; }
  // Of these types and caches to choose from: who goes from one set to another and back finds both.
  std::string CostsPath() const {
    Sha256 hash;
    hash.Update(key);
    return Path("costs-" + hash.Hex().substr(0, 8) + ".json");
  }
  Status LoadTexts();
  Status MeasureHeader();
  Status LoadReferenceOrMake(const ProgressFn& progress);
  Status LoadCostsOrMake(const ProgressFn& progress);
  Status SaveCosts() const;
  bool ReadCosts(const Json& json);
  std::vector<ExportTensor> Matrices() const;  // that were calibrated
  Result<std::optional<RoundedTensorsWriter>> BeginRounded(std::span<const WeightType> types) const;
  void OpenRounded(std::span<const WeightType> types);

  // A choice of types and cache, and the divergence that is expected of both.
  struct Candidate {
    TypeChoice types;
    KvTypes kv;
    double kld = 0;
  };
  // What was learned from measurements about the goal. Before the first, every part is expected to move as
  // the whole, and the shares of positions that change their most likely token as the root of the
  // divergence.
  struct Learned {
    std::map<std::string, double> ratio;  // of a part's divergence to the expected
    double top1_factor = 0.55;
    double tighten = 1;
    double AllowedKld(const FitGoal& goal) const;  // over all parts
    // The largest share of what the goal allows: at most 1 if it holds.
    double Update(const FitGoal& goal, double expected, const std::vector<PartScore>& scores);
  };

  Status CheckParts(const FitGoal& goal) const;
  std::vector<KvTypes> Caches() const;  // that the model can have, and the one asked for
  Result<Candidate> Choose(const FitGoal& goal, double allowed_kld) const;
  Result<TypeChoice> ChooseTypes(const FitGoal& goal, KvTypes kv, double allowed_kld) const;
  Result<FitResult> WriteCandidate(const Candidate& candidate, const std::string& path,
                                   const ProgressFn& progress);
  uint64_t RamBytes(uint64_t tensor_bytes, KvTypes kv) const;
  Status MeasureTotals(const ProgressFn& progress);
  Result<std::map<std::string, KindFactors>> MeasureKinds(const std::array<std::string, 2>& files,
                                                          const std::map<std::string, double>& costs,
                                                          const ProgressFn& progress) const;
  Result<double> WriteAndScore(const TypeChoice& choice, const std::string& path, const ProgressFn& progress);
  Result<double> KldOf(const std::string& path, TokenWindows Part::*windows, KvTypes kv,
                       const ProgressFn& progress) const;
  void SetTypes(const TypeChoice& choice);
  Result<ExportStats> Write(const std::string& out, const ProgressFn& progress) const;
  Result<std::vector<PartScore>> Score(const std::string& path, TokenWindows Part::*windows, KvTypes kv,
                                       const ProgressFn& progress) const;
};

Status Fit::State::LoadTexts() {
  const ChatTemplate* chat = chat_template ? &*chat_template : nullptr;
  for (const TextPart& text : options.calibration.texts) {
    Part part{text.name, {}, {}, {}};
    ASSIGN_OR_RETURN(const auto selection, Windows(Deal(text, TextPurpose::kSelection), *tokenizer, chat,
                                                   options.calibration.n_ctx));
    ASSIGN_OR_RETURN(const auto scoring,
                     Windows(Deal(text, TextPurpose::kScoring), *tokenizer, chat, options.calibration.n_ctx));
    part.selection = Whole(selection, options.calibration.n_ctx);
    part.scoring = Whole(scoring, options.calibration.n_ctx);
    parts.push_back(std::move(part));
  }
  LimitWindows(parts, &Part::selection);
  LimitWindows(parts, &Part::scoring);
  for (Part& part : parts) {
    const auto n_texts = std::ssize(parts);
    const auto n_brief = std::min(part.selection.size(), (kBriefWindows + n_texts - 1) / n_texts);
    part.brief = part.selection;
    part.brief.tokens.resize(static_cast<size_t>(n_brief * options.calibration.n_ctx));
  }
  const bool any = std::ranges::any_of(parts, [](const Part& p) { return p.selection.size() > 0; });
  if (!any) {
    return MakeError(
        ErrorCode::kInvalidArgument,
        "the calibration text is too short: of each ten documents one is kept to choose by, and these "
        "make no window of {} tokens",
        options.calibration.n_ctx);
  }
  return {};
}

Status Fit::State::LoadReferenceOrMake(const ProgressFn& progress) {
  const std::string path = Path("reference.tref");
  auto loaded = SavedReference::Load(path);
  if (loaded) {
    reference.emplace(std::move(*loaded));
    return {};
  }
  reference.emplace(ReferenceHeader{.model = model_path,
                                    .model_sha256 = HashModel(model->file()),
                                    .model_bytes = static_cast<int64_t>(FileBytes(model->file())),
                                    .n_ctx = options.calibration.n_ctx,
                                    .vocab_size = model->config().vocab_size,
                                    .top_k = kTopK,
                                    .n_tail = kTopK});
  Context exact = ctx;
  exact.compute = Compute::kF32;
  for (const Part& part : parts) {
    for (const TokenWindows* windows : {&part.selection, &part.scoring}) {
      if (windows->size() == 0) continue;
      RETURN_IF_ERROR(
          MeasurePerplexity(exact, *model, *tokenizer, *windows, {.save = &*reference}, progress));
    }
  }
  return reference->Save(path);
}

// The size does not depend on which types are chosen, only on there being keys that name them.
Status Fit::State::MeasureHeader() {
  SetTypes({std::vector<size_t>(plan.tensors.size())});
  std::vector<TensorDeclaration> declarations;
  uint64_t tensor_bytes = 0;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const ExportTensor& t = plan.tensors[i];
    declarations.push_back({t.name, t.type, t.shape()});
    tensor_bytes += expected.costs()[i].choices[0].bytes;
  }
  ASSIGN_OR_RETURN(const uint64_t file_bytes, GgufWriter::FileBytes(plan.metadata, declarations));
  header_bytes = file_bytes - tensor_bytes;
  return {};
}

Status Fit::State::SaveCosts() const {
  const Json json = {
      {"key", key}, {"activation_kld", activation_kld}, {"kv_kld", kv_kld}, {"expected", expected.ToJson()}};
  return WriteFileAtomically(CostsPath(), DumpJson(json, 1));
}

// False, or an exception, if these are others.
bool Fit::State::ReadCosts(const Json& json) {
  if (json.value("key", std::string()) != key) return false;
  activation_kld = json.at("activation_kld").get<double>();
  kv_kld = json.at("kv_kld").get<std::map<std::string, double>>();
  expected = ExpectedKld::FromJson(json.at("expected"));
  return std::ranges::equal(expected.costs(), plan.tensors, {}, &TensorCosts::name, &ExportTensor::name);
}

Status Fit::State::LoadCostsOrMake(const ProgressFn& progress) {
  const std::vector<WeightType> types = TypesToChoose(options);
  if (const auto json = ReadJsonFile(CostsPath())) {
    try {
      if (ReadCosts(*json)) {
        OpenRounded(types);
        return {};
      }
    } catch (const std::exception&) {  // a damaged cache is made again
    }
  }
  std::optional<RoundedTensorsWriter> keep;
  if (options.max_seconds == 0) {
    ASSIGN_OR_RETURN(keep, BeginRounded(types));
  }
  const double time = options.max_seconds > 0 ? std::max(1.0, TimeUntil(kCostsUntil)) : 0;
  ASSIGN_OR_RETURN(std::vector<TensorCosts> costs, MeasureCosts(plan, calibration, types, ctx.pool, progress,
                                                                {time, keep ? &*keep : nullptr}));
  if (keep) RETURN_IF_ERROR(keep->Finish());
  expected = ExpectedKld(std::move(costs));
  OpenRounded(types);
  RETURN_IF_ERROR(MeasureTotals(progress));
  return SaveCosts();
}

std::vector<ExportTensor> Fit::State::Matrices() const {
  std::vector<ExportTensor> matrices;
  std::ranges::copy_if(plan.tensors, std::back_inserter(matrices),
                       [&](const ExportTensor& t) { return calibration.Has(t.name); });
  return matrices;
}

// Absent if the disk has little room.
Result<std::optional<RoundedTensorsWriter>> Fit::State::BeginRounded(
    std::span<const WeightType> types) const {
  const std::vector<ExportTensor> matrices = Matrices();
  std::error_code ec;
  const std::string path = Path("rounded");
  std::filesystem::create_directories(path, ec);
  const auto space = std::filesystem::space(path, ec);
  if (ec || RoundedTensorsWriter::Bytes(types, matrices) > space.available / kDiskShare) return {};
  return RoundedTensorsWriter::Create(path, calibration_key, types, matrices);
}

void Fit::State::OpenRounded(std::span<const WeightType> types) {
  auto opened = RoundedTensors::Open(Path("rounded"), calibration_key, types, Matrices());
  if (opened) rounded = std::move(*opened);
}

// Over all texts.
Result<double> Fit::State::KldOf(const std::string& path, TokenWindows Part::*windows, KvTypes kv,
                                 const ProgressFn& progress) const {
  ASSIGN_OR_RETURN(const auto scores, Score(path, windows, kv, progress));
  return scores.front().kld;
}

// What int8 activations and the caches' types cost: the divergence of the finest file, less what its weights
// cost. Then what kinds of matrices do add between that file and a coarse one, and totals in between and
// beyond.
Status Fit::State::MeasureTotals(const ProgressFn& progress) {
  const TemporaryFile fine(Path("measured.gguf"), "fine"), coarse(Path("measured.gguf"), "coarse");
  const TypeChoice finest = expected.Finest();
  ASSIGN_OR_RETURN(const double fine_kld, WriteAndScore(finest, fine.path(), progress));
  activation_kld = std::max(0.0, fine_kld - finest.kld);
  for (const KvTypes kv : Caches()) {
    const std::string name = KvName(kv);
    kv_kld[name] = 0;
    if (name == KvName(kCaches[0])) continue;
    ASSIGN_OR_RETURN(const double kld, KldOf(fine.path(), &Part::selection, kv, progress));
    kv_kld[name] = std::max(0.0, kld - fine_kld);
  }
  std::vector<std::pair<TypeChoice, double>> measured = {{finest, fine_kld}};
  if (const auto coarse_choice = expected.Coarse(kCoarseKld)) {
    ASSIGN_OR_RETURN(const double kld, WriteAndScore(*coarse_choice, coarse.path(), progress));
    measured.emplace_back(*coarse_choice, kld);
    std::map<std::string, double> costs;
    for (size_t i = 0; i < plan.tensors.size(); ++i) {
      const TensorCosts& t = expected.costs()[i];
      costs[KindOf(t.name)] += t.choices[coarse_choice->choice[i]].kld - t.choices[finest.choice[i]].kld;
    }
    ASSIGN_OR_RETURN(auto kinds, MeasureKinds({fine.path(), coarse.path()}, costs, progress));
    expected.SetKinds(*coarse_choice, std::move(kinds));
  }
  std::vector<uint64_t> sizes = {LeastBytes(expected.costs())};
  if (measured.size() == 2) sizes.push_back((finest.bytes + measured[1].first.bytes) / 2);
  for (const uint64_t bytes : sizes) {
    ASSIGN_OR_RETURN(TypeChoice choice, expected.SolveForBytes(bytes));
    const TemporaryFile file(Path("measured.gguf"), "total");
    ASSIGN_OR_RETURN(const double kld, WriteAndScore(choice, file.path(), progress));
    measured.emplace_back(std::move(choice), kld);
  }
  std::vector<std::pair<double, double>> totals;
  for (const auto& [choice, kld] : measured) {
    const double sum = expected.Sum(choice.choice);
    totals.emplace_back(sum, std::max(kld - activation_kld, 0.1 * sum));
  }
  expected.SetMeasured(std::move(totals));
  return {};
}

// The divergence of a choice's file over all texts to choose by.
Result<double> Fit::State::WriteAndScore(const TypeChoice& choice, const std::string& path,
                                         const ProgressFn& progress) {
  SetTypes(choice);
  RETURN_IF_ERROR(Write(path, progress));
  return KldOf(path, &Part::selection, kCaches[0], progress);
}

// files: fine, coarse. costs: of going from one to the other, by kind.
Result<std::map<std::string, KindFactors>> Fit::State::MeasureKinds(
    const std::array<std::string, 2>& files, const std::map<std::string, double>& costs,
    const ProgressFn& progress) const {
  double least = 0;  // costs that are told from noise
  for (const auto& [kind, cost] : costs) least += 0.003 * cost;
  Progress done{"measure", 0, static_cast<double>(costs.size()), "kinds", ""};
  const ProgressFn tell = [&](const Progress&) { return !progress || progress(done); };
  std::array<double, 2> pure, mixed;
  for (size_t i = 0; i < 2; ++i) {
    ASSIGN_OR_RETURN(pure[i], KldOf(files[i], &Part::brief, kCaches[0], tell));
  }
  std::array<ExportPlan, 2> plans;
  for (size_t i = 0; i < 2; ++i) {
    ASSIGN_OR_RETURN(ModelFile file, OpenModelFile(files[i]));
    ASSIGN_OR_RETURN(plans[i], PlanFromGguf(std::move(file)));
  }
  const auto exchange = [&](const std::string& kind) {
    for (size_t i = 0; i < plan.tensors.size(); ++i) {
      if (KindOf(plan.tensors[i].name) == kind) std::swap(plans[0].tensors[i], plans[1].tensors[i]);
    }
  };
  std::map<std::string, KindFactors> kinds;
  for (const auto& [kind, cost] : costs) {
    done.note = kind;
    done.done += 1;
    if (cost < least || TimeUntil(kKindsUntil) < 0) continue;
    exchange(kind);
    for (size_t i = 0; i < 2; ++i) {
      const TemporaryFile file(Path("measured.gguf"), "mixed");
      RETURN_IF_ERROR(WriteGgufFromPlan(plans[i], file.path(), ctx.pool, nullptr, "mix"));
      ASSIGN_OR_RETURN(mixed[i], KldOf(file.path(), &Part::brief, kCaches[0], tell));
    }
    exchange(kind);
    const auto factor = [&, cost = cost](double kld) {
      return std::clamp((kld + least) / (cost + least), kLeastFactor, kMostFactor);
    };
    kinds[kind] = {factor(mixed[0] - pure[0]), factor(pure[1] - mixed[1])};
  }
  return kinds;
}

void Fit::State::SetTypes(const TypeChoice& choice) {
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    ExportTensor& t = plan.tensors[i];
    t.type = t.wanted = expected.costs()[i].choices[choice.choice[i]].type;
    if (const TensorInfo* r = rounded ? rounded->Find(t.name, t.type) : nullptr) t.source = *r;
  }
  SetFileType(plan);
}

Result<ExportStats> Fit::State::Write(const std::string& out, const ProgressFn& progress) const {
  return WriteGgufFromPlan(plan, out, ctx.pool, progress, "write",
                           RoundingBy({RoundingMethod::kGptq}, calibration, ctx.pool));
}

Result<std::vector<PartScore>> Fit::State::Score(const std::string& path, TokenWindows Part::*windows,
                                                 KvTypes kv, const ProgressFn& progress) const {
  ASSIGN_OR_RETURN(const std::unique_ptr<Model> small, Model::Load(path));
  std::vector<PerplexityResult> results;
  std::vector<PartScore> scores(1);
  PerplexityOptions how{.saved_reference = &*reference};
  if (kv.k != kF16 || kv.v != kF16) how.kv = kv;
  for (const Part& part : parts) {
    if ((part.*windows).size() == 0) continue;
    ASSIGN_OR_RETURN(PerplexityResult result,
                     MeasurePerplexity(ctx, *small, *tokenizer, part.*windows, how, progress));
    scores.push_back(ScoreOf(part.name, result));
    results.push_back(std::move(result));
  }
  std::vector<const PerplexityResult*> all;
  all.reserve(results.size());
  for (const PerplexityResult& r : results) all.push_back(&r);
  if (all.empty()) return std::vector<PartScore>();
  scores[0] = ScoreOf(kAll, Pool(all));
  return scores;
}

uint64_t Fit::State::RamBytes(uint64_t tensor_bytes, KvTypes kv) const {
  return tensor_bytes + KvCache::BytesPerToken(model->config(), kv) * static_cast<uint64_t>(options.ram_ctx) +
         kProgramBytes + kVocabularyFactor * header_bytes;
}

Result<TypeChoice> Fit::State::ChooseTypes(const FitGoal& goal, KvTypes kv, double allowed_kld) const {
  uint64_t bytes = UINT64_MAX;
  const auto limit = [&](uint64_t most, uint64_t other) {
    bytes = std::min(bytes, most > other ? most - other : 0);
  };
  if (goal.file_bytes) limit(*goal.file_bytes, header_bytes);
  if (goal.ram_bytes) limit(*goal.ram_bytes, RamBytes(0, kv));
  if (goal.bits_per_weight) {
    double weights = 0;
    for (const ExportTensor& t : plan.tensors) weights += static_cast<double>(t.source.n_elements());
    limit(static_cast<uint64_t>(*goal.bits_per_weight * weights / 8), 0);
  }
  if (std::isinf(allowed_kld)) return expected.SolveForBytes(bytes);
  ASSIGN_OR_RETURN(TypeChoice choice, expected.SolveForKld(allowed_kld));
  if (choice.bytes > bytes) {
    return MakeError(ErrorCode::kNotFound,
                     "the quality asked for takes {} bytes of weights; the budget leaves {}", choice.bytes,
                     bytes);
  }
  return choice;
}

std::vector<KvTypes> Fit::State::Caches() const {
  std::vector<KvTypes> caches;
  for (const KvTypes kv : kCaches) {
    if (KvCache::Check(model->config(), kv)) caches.push_back(kv);
  }
  const bool own = options.kv && std::ranges::none_of(
                                     caches, [&](KvTypes kv) { return KvName(kv) == KvName(*options.kv); });
  if (own) caches.push_back(*options.kv);
  return caches;
}

// The cache's type is part of the choice where memory is limited and none is given.
Result<Fit::State::Candidate> Fit::State::Choose(const FitGoal& goal, double allowed_kld) const {
  std::vector<KvTypes> caches = {options.kv.value_or(kCaches[0])};
  if (goal.ram_bytes && !options.kv) caches = Caches();
  std::optional<Candidate> best;
  Error error{};
  for (const KvTypes kv : caches) {
    const double other = activation_kld + kv_kld.at(KvName(kv));
    auto types = ChooseTypes(goal, kv, allowed_kld - other);
    if (!types) {
      error = types.error();
      continue;
    }
    const double kld = expected.Of(types->kld) + other;
    if (!best || (IsMeasured(goal) ? types->bytes < best->types.bytes : kld < best->kld)) {
      best = {std::move(*types), kv, kld};
    }
  }
  if (!best) return tl::unexpected(std::move(error));
  return std::move(*best);
}

Fit::Fit(std::unique_ptr<State> state) : state_(std::move(state)) {}
Fit::~Fit() = default;

const std::vector<TensorCosts>& Fit::costs() const {
  return state_->expected.costs();
}
const ExportPlan& Fit::plan() const {
  return state_->plan;
}
std::string Fit::cache_path() const {
  return state_->folder;
}

std::vector<Fit::FrontPoint> Fit::Front(int points) const {
  std::vector<FrontPoint> front;
  for (const TypeChoice& choice : state_->expected.Front(points)) {
    front.push_back(
        {choice.bytes + state_->header_bytes, state_->expected.Of(choice.kld) + state_->activation_kld});
  }
  return front;
}

std::vector<Fit::TypePoint> Fit::TypePoints() const {
  const auto bits = [](WeightType type) { return 8.0 * Info(type).block_bytes / Info(type).block_size; };
  std::vector<TypePoint> points;
  for (const WeightType type : TypesToChoose(state_->options)) {
    uint64_t bytes = state_->header_bytes;
    std::vector<size_t> choice;
    int64_t n_held = 0, n_other = 0;
    for (const TensorCosts& t : costs()) {
      const auto nearest = std::ranges::min_element(t.choices, {}, [&](const TypeCost& c) {
        return std::tuple(c.type != type, std::abs(bits(c.type) - bits(type)), c.kld);
      });
      choice.push_back(static_cast<size_t>(nearest - t.choices.begin()));
      bytes += nearest->bytes;
      if (t.choices.size() > 1) ++(nearest->type == type ? n_held : n_other);
    }
    if (n_held == 0) continue;
    const ExpectedKld& expected = state_->expected;
    points.push_back({type, n_other, {bytes, expected.Of(expected.Sum(choice)) + state_->activation_kld}});
  }
  return points;
}

Result<std::unique_ptr<Fit>> Fit::Prepare(const Context& ctx, const std::string& model_path,
                                          const FitOptions& options, const ProgressFn& progress) {
  auto state = std::make_unique<State>(State{.ctx = ctx, .options = options, .model_path = model_path});
  State& s = *state;
  s.options.calibration.limits.max_seconds = kCalibratedUntil * options.max_seconds;
  ASSIGN_OR_RETURN(s.model, Model::Load(model_path));
  ASSIGN_OR_RETURN(s.tokenizer, LoadTokenizer(s.model->file()));
  ASSIGN_OR_RETURN(s.chat_template, LoadChatTemplate(*s.tokenizer, model_path));
  ASSIGN_OR_RETURN(ModelFile source, OpenModelFile(model_path));
  ASSIGN_OR_RETURN(s.plan, PlanFromModelFile(std::move(source)));
  RETURN_IF_ERROR(s.LoadTexts());
  ASSIGN_OR_RETURN(CachedCalibration cached,
                   CalibrateOrLoad(ctx, *s.model, *s.tokenizer, s.chat_template ? &*s.chat_template : nullptr,
                                   s.options.calibration, progress));
  s.calibration = std::move(cached.calibration);
  s.folder = cached.folder;
  s.key = s.calibration_key = cached.key;
  if (options.native) s.key += " native";
  for (const WeightType type : options.types) s.key += std::string(" ") + Name(type);
  for (const KvTypes kv : s.Caches()) s.key += " " + KvName(kv);
  RETURN_IF_ERROR(s.LoadReferenceOrMake(progress));
  RETURN_IF_ERROR(s.LoadCostsOrMake(progress));
  RETURN_IF_ERROR(s.MeasureHeader());
  return std::unique_ptr<Fit>(new Fit(std::move(state)));
}

double Fit::State::Learned::AllowedKld(const FitGoal& goal) const {
  double allowed = INFINITY;
  for (const auto& [part, most] : goal.max_kld) {
    const auto known = ratio.find(part);
    allowed = std::min(allowed, most / (known != ratio.end() ? known->second : 1.0));
  }
  if (goal.min_top1) allowed = std::min(allowed, std::pow((1 - *goal.min_top1) / top1_factor, 2));
  return kAim * tighten * allowed;
}

double Fit::State::Learned::Update(const FitGoal& goal, double expected,
                                   const std::vector<PartScore>& scores) {
  double worst = 0;
  for (const auto& [part, most] : goal.max_kld) {
    const PartScore& score = *std::ranges::find(scores, part.empty() ? kAll : part, &PartScore::part);
    ratio[part] = std::max(1e-3, score.kld / expected);
    worst = std::max(worst, score.kld / most);
  }
  if (goal.min_top1) {
    const double changed = 1 - scores.front().top1;
    top1_factor = std::max(1e-3, changed / std::sqrt(expected));
    worst = std::max(worst, changed > 0 ? std::pow(changed / (1 - *goal.min_top1), 2) : 0.0);
  }
  return worst;
}

Status Fit::State::CheckParts(const FitGoal& goal) const {
  for (const auto& [name, most] : goal.max_kld) {
    const auto part = std::ranges::find(parts, name, &Part::name);
    if (name.empty() || (part != parts.end() && part->selection.size() > 0)) continue;
    return MakeError(ErrorCode::kInvalidArgument,
                     "no text to choose by is called '{}', or it is too short for a window", name);
  }
  return {};
}

Result<FitResult> Fit::State::WriteCandidate(const Candidate& candidate, const std::string& path,
                                             const ProgressFn& progress) {
  SetTypes(candidate.types);
  FitResult result{.choice = candidate.types,
                   .kv = candidate.kv,
                   .predicted_kld = candidate.kld,
                   .activation_kld = activation_kld,
                   .tensor_kld = expected.Shares(candidate.types.choice),
                   .file_bytes = candidate.types.bytes + header_bytes,
                   .ram_bytes = RamBytes(candidate.types.bytes, candidate.kv)};
  ASSIGN_OR_RETURN(result.stats, Write(path, progress));
  return result;
}

Result<FitResult> Fit::Run(const FitGoal& goal, const std::string& out, const ProgressFn& progress) {
  State& s = *state_;
  RETURN_IF_ERROR(CheckOutputFile(s.model_path, out));
  RETURN_IF_ERROR(s.CheckParts(goal));
  // A measured goal takes several rounds; the smallest file that met it is kept until the end.
  const TemporaryFile tried(out, "tried"), kept(out, "kept");
  State::Learned learned;
  std::vector<TypeChoice> seen;
  std::optional<FitResult> best;
  double nearest = INFINITY;
  for (int round = 0; round < kMostRounds; ++round) {
    auto candidate = s.Choose(goal, learned.AllowedKld(goal));
    if (!candidate && best) break;
    if (!candidate) return tl::unexpected(candidate.error());
    if (std::ranges::find(seen, candidate->types.choice, &TypeChoice::choice) != seen.end()) {
      if (best) break;
      learned.tighten *= 0.8;  // the next smaller divergence that there is
      continue;
    }
    seen.push_back(candidate->types);
    ASSIGN_OR_RETURN(FitResult result, s.WriteCandidate(*candidate, tried.path(), progress));
    double share = 1;
    if (IsMeasured(goal)) {
      ASSIGN_OR_RETURN(result.selection, s.Score(tried.path(), &Part::selection, result.kv, progress));
      share = learned.Update(goal, result.predicted_kld, result.selection);
    }
    nearest = std::min(nearest, share);
    if (share > 1 || (best && result.file_bytes >= best->file_bytes)) continue;
    RETURN_IF_ERROR(tried.RenameTo(kept.path()));
    best = std::move(result);
    if (share >= kSlack) break;
  }
  if (!best) {
    return MakeError(ErrorCode::kNotFound,
                     "the quality asked for was missed {} times, at best by a factor of {:.2f}", seen.size(),
                     nearest);
  }
  ASSIGN_OR_RETURN(best->scoring, s.Score(kept.path(), &Part::scoring, best->kv, progress));
  if (best->scoring.empty() && best->selection.empty()) {
    ASSIGN_OR_RETURN(best->selection, s.Score(kept.path(), &Part::selection, best->kv, progress));
  }
  RETURN_IF_ERROR(kept.RenameTo(out));
  return std::move(*best);
}

}  // namespace thimble
