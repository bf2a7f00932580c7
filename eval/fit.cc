#include "eval/fit.h"

#include <algorithm>
#include <cmath>
#include <tuple>

#include "eval/perplexity.h"
#include "formats/model_hash.h"
#include "quant/calibrated_rounding.h"
#include "text/load_tokenizer.h"

namespace thimble {
namespace {

using enum WeightType;

constexpr int kMostRounds = 5;                // of choosing again by what was measured
constexpr double kSlack = 0.97;               // a measured goal is met closely enough
constexpr double kAim = 0.985;                // of a measured goal: the middle of what is close enough
constexpr int64_t kTopK = 32;                 // of the saved reference: within 0.5 % (docs/formats/tref.md)
constexpr uint64_t kProgramBytes = 10 << 20;  // of a process beside weights, cache and vocabulary
constexpr uint64_t kVocabularyFactor = 10;    // memory that a vocabulary takes, per byte of the file's header

constexpr WeightType kAllTypes[] = {kQ2_K,   kQ3_K,  kQ4_K,    kQ5_K,  kQ6_K,   kIQ2_XXS,
                                    kIQ2_XS, kIQ2_S, kIQ3_XXS, kIQ3_S, kIQ4_XS, kIQ4_NL,
                                    kQ4_0,   kQ4_1,  kQ5_0,    kQ5_1,  kQ8_0};
constexpr KvTypes kCaches[] = {{kF16, kF16}, {kQ8_0, kQ8_0}, {kQ4_0, kQ4_0}};

struct Part {
  std::string name;
  TokenWindows selection, scoring;
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

std::string KvName(KvTypes kv) {
  return std::string(Name(kv.k)) + "/" + Name(kv.v);
}

const std::string kAll = "all";  // parts together, in scores

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
  std::string model_path, key, folder;
  std::unique_ptr<Model> model;
  std::optional<Tokenizer> tokenizer;
  std::optional<ChatTemplate> chat_template;
  std::vector<Part> parts;
  CalibrationFile calibration;
  ExportPlan plan;
  std::vector<TensorCosts> costs;
  std::optional<SavedReference> reference;
  double activation_kld = 0;
  std::map<std::string, double> kv_kld;  // by KvName
  // Sums of costs, ascending, and the divergence that was measured beyond activation_kld at each: costs are
  // found on the text that the rounding was fitted to, and add up only while they are small.
  std::vector<std::pair<double, double>> measured;
  uint64_t header_bytes = 0;  // of the file, beside tensors

  std::string Path(const char* name) const { return folder + "/" + name; }
  Status LoadTexts();
  Status MeasureHeader();
  Status LoadReferenceOrMake(const ProgressFn& progress);
  Status LoadCostsOrMake(const ProgressFn& progress);
  Status SaveCosts() const;
  Status ReadCosts(const Json& json);

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
  Result<FitResult> WriteAndMeasure(const Candidate& candidate, const std::string& path,
                                    const ProgressFn& progress);
  uint64_t RamBytes(uint64_t tensor_bytes, KvTypes kv) const;
  double Expected(double cost) const;  // divergence of weights whose costs add up to this
  double CostFor(double kld) const;    // the inverse
  Status MeasureFinest(const ProgressFn& progress);
  Status MeasureFront(const ProgressFn& progress);
  Result<std::vector<double>> MeasureChoice(const TypeChoice& choice, const std::vector<KvTypes>& caches,
                                            const ProgressFn& progress);
  void SetTypes(const TypeChoice& choice);
  Result<ExportStats> Write(const std::string& out, const ProgressFn& progress) const;
  Result<std::vector<PartScore>> Score(const std::string& path, TokenWindows Part::*windows, KvTypes kv,
                                       const ProgressFn& progress) const;
};

Status Fit::State::LoadTexts() {
  const ChatTemplate* chat = chat_template ? &*chat_template : nullptr;
  for (const TextPart& text : options.calibration.texts) {
    Part part{text.name, {}, {}};
    ASSIGN_OR_RETURN(const auto selection, Windows(Deal(text, TextPurpose::kSelection), *tokenizer, chat,
                                                   options.calibration.n_ctx));
    ASSIGN_OR_RETURN(const auto scoring,
                     Windows(Deal(text, TextPurpose::kScoring), *tokenizer, chat, options.calibration.n_ctx));
    part.selection = Whole(selection, options.calibration.n_ctx);
    part.scoring = Whole(scoring, options.calibration.n_ctx);
    parts.push_back(std::move(part));
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
  SetTypes({std::vector<size_t>(costs.size())});
  std::vector<TensorDeclaration> declarations;
  uint64_t tensor_bytes = 0;
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    const ExportTensor& t = plan.tensors[i];
    declarations.push_back({t.name, t.type, t.shape()});
    tensor_bytes += costs[i].choices[0].bytes;
  }
  ASSIGN_OR_RETURN(const uint64_t file_bytes, GgufWriter::FileBytes(plan.metadata, declarations));
  header_bytes = file_bytes - tensor_bytes;
  return {};
}

Status Fit::State::SaveCosts() const {
  Json json = {{"key", key},
               {"activation_kld", activation_kld},
               {"kv_kld", kv_kld},
               {"measured", measured},
               {"tensors", Json::array()}};
  for (const TensorCosts& t : costs) {
    Json choices = Json::array();
    for (const TypeCost& c : t.choices)
      choices.push_back({{"type", Name(c.type)}, {"bytes", c.bytes}, {"kld", c.kld}});
    json["tensors"].push_back({{"name", t.name}, {"choices", choices}});
  }
  return WriteFileAtomically(Path("costs.json"), DumpJson(json, 1));
}

Status Fit::State::ReadCosts(const Json& json) {
  const auto bad = [&] {
    return MakeError(ErrorCode::kInvalidArgument, "{}: not these costs", Path("costs.json"));
  };
  if (json.value("key", std::string()) != key || json.at("tensors").size() != plan.tensors.size())
    return bad();
  activation_kld = json.at("activation_kld").get<double>();
  kv_kld = json.at("kv_kld").get<std::map<std::string, double>>();
  measured = json.at("measured").get<std::vector<std::pair<double, double>>>();
  for (const Json& t : json.at("tensors")) {
    TensorCosts tensor{t.at("name").get<std::string>(), {}};
    for (const Json& c : t.at("choices")) {
      const auto type = ParseWeightType(c.at("type").get<std::string>());
      if (!type) return bad();
      tensor.choices.push_back({*type, c.at("bytes").get<uint64_t>(), c.at("kld").get<double>()});
    }
    if (tensor.choices.empty()) return bad();
    costs.push_back(std::move(tensor));
  }
  return {};
}

Status Fit::State::LoadCostsOrMake(const ProgressFn& progress) {
  if (const auto json = ReadJsonFile(Path("costs.json"))) {
    try {
      if (ReadCosts(*json)) return {};
    } catch (const nlohmann::json::exception&) {  // a damaged cache is made again
    }
    costs.clear();
  }
  const std::vector<WeightType> types =
      options.types.empty() ? std::vector<WeightType>(std::begin(kAllTypes), std::end(kAllTypes))
                            : options.types;
  ASSIGN_OR_RETURN(costs, MeasureCosts(plan, calibration, types, ctx.pool, progress));
  kv_kld.clear();
  measured.clear();
  RETURN_IF_ERROR(MeasureFinest(progress));
  RETURN_IF_ERROR(MeasureFront(progress));
  return SaveCosts();
}

// With each cache, over all texts to choose by, of a file that is made for this alone.
Result<std::vector<double>> Fit::State::MeasureChoice(const TypeChoice& choice,
                                                      const std::vector<KvTypes>& caches,
                                                      const ProgressFn& progress) {
  SetTypes(choice);
  const TemporaryFile file(Path("measured.gguf"), "fit");
  RETURN_IF_ERROR(Write(file.path(), progress));
  std::vector<double> klds;
  for (const KvTypes kv : caches) {
    ASSIGN_OR_RETURN(const auto scores, Score(file.path(), &Part::selection, kv, progress));
    klds.push_back(scores.front().kld);
  }
  return klds;
}

// What int8 activations and the caches' types cost: the divergence of the finest file, less what its weights
// cost.
Status Fit::State::MeasureFinest(const ProgressFn& progress) {
  TypeChoice finest;
  for (const TensorCosts& t : costs) {
    finest.choice.push_back(t.choices.size() - 1);
    finest.kld += t.choices.back().kld;
  }
  const std::vector<KvTypes> caches = Caches();
  ASSIGN_OR_RETURN(const std::vector<double> klds, MeasureChoice(finest, caches, progress));
  activation_kld = std::max(0.0, klds.front() - finest.kld);
  for (size_t i = 0; i < caches.size(); ++i) {
    kv_kld[KvName(caches[i])] = std::max(0.0, klds[i] - finest.kld - activation_kld);
  }
  return {};
}

Status Fit::State::MeasureFront(const ProgressFn& progress) {
  const std::vector<TypeChoice> front = ParetoFront(costs, 12);
  for (size_t i = 0; i < front.size(); i += i < 2 ? 2 : 3) {
    ASSIGN_OR_RETURN(const std::vector<double> kld, MeasureChoice(front[i], {kCaches[0]}, progress));
    measured.emplace_back(front[i].kld, std::max(kld.front() - activation_kld, 0.1 * front[i].kld));
  }
  std::ranges::sort(measured);
  for (size_t i = 1; i < measured.size(); ++i) {  // noise must not make it fall
    measured[i].second = std::max(measured[i].second, 1.0001 * measured[i - 1].second);
  }
  return {};
}

// Between measurements on a line of logarithms, beyond them in proportion.
double Fit::State::Expected(double cost) const {
  if (measured.empty() || !(cost > 0)) return cost;
  const auto above = std::ranges::lower_bound(measured, cost, {}, [](const auto& m) { return m.first; });
  if (above == measured.begin()) return cost * above->second / above->first;
  const auto& low = *std::prev(above);
  if (above == measured.end()) return cost * low.second / low.first;
  const double share = std::log(cost / low.first) / std::log(above->first / low.first);
  return low.second * std::pow(above->second / low.second, share);
}

double Fit::State::CostFor(double kld) const {
  double low = 0, high = std::max(kld, 1e-9);
  while (Expected(high) < kld) high *= 2;
  for (int step = 0; step < 60; ++step) {
    const double middle = 0.5 * (low + high);
    (Expected(middle) <= kld ? low : high) = middle;
  }
  return low;
}

void Fit::State::SetTypes(const TypeChoice& choice) {
  for (size_t i = 0; i < plan.tensors.size(); ++i) {
    plan.tensors[i].type = plan.tensors[i].wanted = costs[i].choices[choice.choice[i]].type;
  }
  // The name of the type that most weights have.
  std::map<WeightType, int64_t> weights;
  for (const ExportTensor& t : plan.tensors) weights[t.type] += t.source.n_elements();
  const auto most = std::ranges::max_element(weights, {}, [](const auto& w) { return w.second; });
  plan.metadata.Set("general.file_type", {(*FindMix(Name(most->first)))->file_type});
  plan.metadata.Set("general.quantization_version", {kQuantizationVersion});
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
  if (std::isinf(allowed_kld)) return SolveForBytes(costs, bytes);
  ASSIGN_OR_RETURN(TypeChoice choice, SolveForKld(costs, CostFor(allowed_kld)));
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
    const double kld = Expected(types->kld) + other;
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
  return state_->costs;
}
const ExportPlan& Fit::plan() const {
  return state_->plan;
}
std::string Fit::cache_path() const {
  return state_->folder;
}

std::vector<Fit::FrontPoint> Fit::Front(int points) const {
  std::vector<FrontPoint> front;
  for (const TypeChoice& choice : ParetoFront(state_->costs, points)) {
    front.push_back(
        {choice.bytes + state_->header_bytes, state_->Expected(choice.kld) + state_->activation_kld});
  }
  return front;
}

std::vector<Fit::TypePoint> Fit::TypePoints() const {
  const auto bits = [](WeightType type) { return 8.0 * Info(type).block_bytes / Info(type).block_size; };
  std::vector<TypePoint> points;
  for (const WeightType type : kAllTypes) {
    uint64_t bytes = state_->header_bytes;
    double cost = 0;
    int64_t n_held = 0, n_other = 0;
    for (const TensorCosts& t : state_->costs) {
      const TypeCost& nearest = *std::ranges::min_element(t.choices, {}, [&](const TypeCost& c) {
        return std::tuple(c.type != type, std::abs(bits(c.type) - bits(type)), c.kld);
      });
      bytes += nearest.bytes;
      cost += nearest.kld;
      if (t.choices.size() > 1) ++(nearest.type == type ? n_held : n_other);
    }
    if (n_held == 0) continue;
    points.push_back({type, n_other, {bytes, state_->Expected(cost) + state_->activation_kld}});
  }
  return points;
}

Result<std::unique_ptr<Fit>> Fit::Prepare(const Context& ctx, const std::string& model_path,
                                          const FitOptions& options, const ProgressFn& progress) {
  auto state = std::make_unique<State>(State{.ctx = ctx, .options = options, .model_path = model_path});
  State& s = *state;
  ASSIGN_OR_RETURN(s.model, Model::Load(model_path));
  ASSIGN_OR_RETURN(s.tokenizer, LoadTokenizer(s.model->file()));
  ASSIGN_OR_RETURN(s.chat_template, LoadChatTemplate(*s.tokenizer, model_path));
  ASSIGN_OR_RETURN(ModelFile source, OpenModelFile(model_path));
  ASSIGN_OR_RETURN(s.plan, PlanFromModelFile(std::move(source)));
  RETURN_IF_ERROR(s.LoadTexts());
  ASSIGN_OR_RETURN(CachedCalibration cached,
                   CalibrateOrLoad(ctx, *s.model, *s.tokenizer, s.chat_template ? &*s.chat_template : nullptr,
                                   options.calibration, progress));
  s.calibration = std::move(cached.calibration);
  s.folder = cached.folder;
  s.key = cached.key;
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

Result<FitResult> Fit::State::WriteAndMeasure(const Candidate& candidate, const std::string& path,
                                              const ProgressFn& progress) {
  SetTypes(candidate.types);
  FitResult result{.choice = candidate.types,
                   .kv = candidate.kv,
                   .predicted_kld = candidate.kld,
                   .activation_kld = activation_kld,
                   .file_bytes = candidate.types.bytes + header_bytes,
                   .ram_bytes = RamBytes(candidate.types.bytes, candidate.kv)};
  ASSIGN_OR_RETURN(result.stats, Write(path, progress));
  ASSIGN_OR_RETURN(result.selection, Score(path, &Part::selection, candidate.kv, progress));
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
    ASSIGN_OR_RETURN(FitResult result, s.WriteAndMeasure(*candidate, tried.path(), progress));
    const double share = IsMeasured(goal) ? learned.Update(goal, result.predicted_kld, result.selection) : 1;
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
  RETURN_IF_ERROR(kept.RenameTo(out));
  return std::move(*best);
}

}  // namespace thimble
