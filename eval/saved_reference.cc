#include "eval/saved_reference.h"

#include <cmath>
#include <cstring>
#include <limits>

#include "base/check.h"
#include "base/random.h"
#include "base/sha256.h"

namespace thimble {
namespace {

constexpr char kMagic[4] = {'T', 'R', 'E', 'F'};
constexpr uint32_t kVersion = 1;
constexpr size_t kKeyBytes = 16, kHashBytes = 64;  // hexadecimal digits
constexpr size_t kFixedBytes = 40 + kHashBytes + 4, kLongestPath = 4096;
constexpr double kStepsPerNat = 2048;
constexpr int64_t kMostTokens = 1 << 16, kLongestWindow = 1 << 24, kLargestVocabulary = 1 << 24;

template <typename T>
void Put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

template <typename T>
T Get(const uint8_t* from) {
  T value;
  std::memcpy(&value, from, sizeof(T));
  return value;
}

uint16_t EncodeLogProb(float log_p) {
  return static_cast<uint16_t>(std::min(65535.0, std::round(-kStepsPerNat * log_p)));
}

float DecodeLogProb(uint16_t steps) {
  return static_cast<float>(-steps / kStepsPerNat);
}

// Two bytes where the vocabulary allows it.
size_t IdBytes(const ReferenceHeader& header) {
  return header.vocab_size <= 1 << 16 ? 2 : 4;
}

std::string Key(std::span<const TokenId> window) {
  Sha256 hash;
  hash.Update({reinterpret_cast<const uint8_t*>(window.data()), window.size_bytes()});
  return hash.Hex().substr(0, kKeyBytes);
}

}  // namespace

// target_log_p and log_tail in F32, then the ids of `top` and `tail`, then their log-probabilities.
size_t SavedReference::record_bytes() const {
  return 8 + static_cast<size_t>(header_.top_k + header_.n_tail) * (IdBytes(header_) + 2);
}

Prediction SavedReference::Keep(std::span<const float> logits, TokenId target,
                                std::span<const TokenId> window, int64_t position) const {
  uint64_t seed = static_cast<uint64_t>(position);
  for (TokenId id : window) seed = Random(seed ^ static_cast<uint64_t>(id)).Next();
  return KeepPrediction(logits, header_.top_k, header_.n_tail, target, seed);
}

void SavedReference::Add(std::span<const TokenId> window, const std::vector<Prediction>& predictions) {
  CHECK(static_cast<int64_t>(predictions.size()) == n_scored());
  std::string block;
  block.reserve(predictions.size() * record_bytes());
  for (const Prediction& prediction : predictions) {
    std::vector<TokenLogProb> tokens = prediction.top;
    tokens.insert(tokens.end(), prediction.tail.begin(), prediction.tail.end());
    // A tail without mass has no tokens to show.
    tokens.resize(static_cast<size_t>(header_.top_k + header_.n_tail), {0, -64});
    Put(block, static_cast<float>(prediction.target_log_p));
    Put(block, static_cast<float>(prediction.log_tail));
    for (const TokenLogProb& token : tokens) {
      if (IdBytes(header_) == 2) {
        Put(block, static_cast<uint16_t>(token.id));
      } else {
        Put(block, static_cast<uint32_t>(token.id));
      }
    }
    for (const TokenLogProb& token : tokens) Put(block, EncodeLogProb(token.log_p));
  }
  std::string key = Key(window);
  if (windows_.contains(key)) return;  // the same tokens twice: the same predictions
  added_.push_back(std::make_unique<const std::string>(std::move(block)));
  windows_[key] = {reinterpret_cast<const uint8_t*>(added_.back()->data()), added_.back()->size()};
  order_.push_back(std::move(key));
}

Status SavedReference::Covers(const TokenWindows& windows, int64_t vocab_size) const {
  if (vocab_size != header_.vocab_size) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: is of {} with a vocabulary of {}, the model has {}",
                     path_, header_.model, header_.vocab_size, vocab_size);
  }
  if (windows.n_ctx != header_.n_ctx) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: has windows of {} tokens, not {}: give -c {}", path_,
                     header_.n_ctx, windows.n_ctx, header_.n_ctx);
  }
  for (int64_t i = 0; i < windows.size(); ++i) {
    if (windows_.contains(Key(windows[i]))) continue;
    if (i == 0) {
      return MakeError(
          ErrorCode::kInvalidArgument,
          "{}: was made of another text or with another tokenizer: save it again with this text and "
          "--save-reference",
          path_);
    }
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: holds {} of the text's {} windows: give --max-windows {}, or save it again", path_,
                     i, windows.size(), i);
  }
  return {};
}

Result<std::vector<Prediction>> SavedReference::Find(std::span<const TokenId> window) const {
  const auto found = windows_.find(Key(window));
  CHECK(found != windows_.end());
  const size_t n_tokens = static_cast<size_t>(header_.top_k + header_.n_tail), id_bytes = IdBytes(header_);
  std::vector<Prediction> predictions(static_cast<size_t>(n_scored()));
  const uint8_t* at = found->second.data();
  for (Prediction& prediction : predictions) {
    const auto damaged = [&](const char* what) {
      return MakeError(ErrorCode::kCorrupt, "{}: damaged at byte {}: {}", path_,
                       file_ ? at - file_->bytes().data() : 0, what);
    };
    prediction.target_log_p = Get<float>(at);
    prediction.log_tail = Get<float>(at + 4);
    if (!(prediction.target_log_p <= 0 && prediction.target_log_p > -1e6)) {
      return damaged("not a log-probability");
    }
    if (!(prediction.log_tail <= 0)) return damaged("not the logarithm of a probability");
    const uint8_t *ids = at + 8, *steps = ids + n_tokens * id_bytes;
    for (size_t i = 0; i < n_tokens; ++i) {
      const uint32_t id = id_bytes == 2 ? Get<uint16_t>(ids + 2 * i) : Get<uint32_t>(ids + 4 * i);
      if (id >= header_.vocab_size) return damaged("a token beyond the vocabulary");
      auto& side = static_cast<int64_t>(i) < header_.top_k ? prediction.top : prediction.tail;
      side.push_back({static_cast<TokenId>(id), DecodeLogProb(Get<uint16_t>(steps + 2 * i))});
    }
    at += record_bytes();
  }
  return predictions;
}

Status SavedReference::Save(const std::string& path) const {
  std::string head(kMagic, sizeof(kMagic));
  Put(head, kVersion);
  for (int64_t value : {header_.n_ctx, header_.vocab_size, header_.top_k, header_.n_tail}) {
    Put(head, static_cast<uint32_t>(value));
  }
  Put(head, static_cast<uint64_t>(order_.size()));
  Put(head, static_cast<uint64_t>(header_.model_bytes));
  std::string sha256 = header_.model_sha256;
  sha256.resize(kHashBytes, '0');
  head += sha256;
  const std::string model = header_.model.substr(0, kLongestPath);
  Put(head, static_cast<uint32_t>(model.size()));
  head += model;

  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Write(head));
  for (const std::string& key : order_) {
    const auto& block = windows_.at(key);
    RETURN_IF_ERROR(file.Write(key));
    RETURN_IF_ERROR(file.Write(block.data(), block.size()));
  }
  return file.Commit();
}

bool SavedReference::Is(const std::string& path) {
  const auto file = MappedFile::Open(path);
  return file && (*file)->bytes().size() >= sizeof(kMagic) &&
         std::memcmp((*file)->bytes().data(), kMagic, sizeof(kMagic)) == 0;
}

Result<SavedReference> SavedReference::Load(const std::string& path) {
  SavedReference out{ReferenceHeader{}};
  out.path_ = path;
  ASSIGN_OR_RETURN(out.file_, MappedFile::Open(path));
  RETURN_IF_ERROR(out.Parse());
  return out;
}

Status SavedReference::Parse() {
  const std::span<const uint8_t> bytes = file_->bytes();
  if (bytes.size() < kFixedBytes || std::memcmp(bytes.data(), kMagic, sizeof(kMagic)) != 0) {
    return MakeError(ErrorCode::kCorrupt,
                     "{}: not a saved reference: its first {} bytes are no header; make it with thimble eval "
                     "--save-reference",
                     path_, kFixedBytes);
  }
  if (const uint32_t version = Get<uint32_t>(&bytes[4]); version != kVersion) {
    return MakeError(ErrorCode::kUnsupported, "{}: byte 4: version {} of saved references, not {}", path_,
                     version, kVersion);
  }
  const auto number = [&](size_t at, int64_t low, int64_t high, int64_t& value) -> Status {
    value = Get<uint32_t>(&bytes[at]);
    if (value >= low && value <= high) return {};
    return MakeError(ErrorCode::kCorrupt, "{}: byte {}: {} is not between {} and {}", path_, at, value, low,
                     high);
  };
  RETURN_IF_ERROR(number(8, 4, kLongestWindow, header_.n_ctx));
  RETURN_IF_ERROR(number(12, 1, kLargestVocabulary, header_.vocab_size));
  RETURN_IF_ERROR(number(16, 1, std::min(kMostTokens, header_.vocab_size), header_.top_k));
  RETURN_IF_ERROR(number(20, 0, kMostTokens, header_.n_tail));
  const uint64_t n_windows = Get<uint64_t>(&bytes[24]);
  header_.model_bytes = static_cast<int64_t>(Get<uint64_t>(&bytes[32]));
  header_.model_sha256.assign(bytes.begin() + 40, bytes.begin() + 40 + kHashBytes);
  int64_t path_bytes = 0;
  RETURN_IF_ERROR(number(40 + kHashBytes, 0, kLongestPath, path_bytes));
  const size_t block = static_cast<size_t>(n_scored()) * record_bytes(), each = kKeyBytes + block;
  const size_t begin = kFixedBytes + static_cast<size_t>(path_bytes);
  if (bytes.size() < begin || n_windows != (bytes.size() - begin) / each ||
      (bytes.size() - begin) % each != 0) {
    return MakeError(ErrorCode::kCorrupt,
                     "{}: has {} bytes, which are not {} windows of {}: was it cut short? (byte 24)", path_,
                     bytes.size(), n_windows, each);
  }
  header_.model.assign(bytes.begin() + kFixedBytes, bytes.begin() + static_cast<ptrdiff_t>(begin));
  for (size_t i = 0; i < n_windows; ++i) {
    const auto at = bytes.subspan(begin + i * each, each);
    std::string key(at.begin(), at.begin() + kKeyBytes);
    if (!windows_.emplace(key, at.subspan(kKeyBytes)).second) {
      return MakeError(ErrorCode::kCorrupt, "{}: byte {}: the same window a second time", path_,
                       begin + i * each);
    }
    order_.push_back(std::move(key));
  }
  return {};
}

}  // namespace thimble
