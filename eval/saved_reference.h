// A reference model's predictions of a text, kept in a file: docs/formats/tref.md.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "eval/prediction.h"
#include "eval/token_windows.h"
#include "formats/model_file.h"

namespace thimble {

// Whose predictions these are, and their shape.
struct ReferenceHeader {
  std::string model;         // path, as it was given
  std::string model_sha256;  // of its bytes: HashModel
  int64_t model_bytes = 0;
  int64_t n_ctx = 0, vocab_size = 0;
  int64_t top_k = 0, n_tail = 0;  // Prediction's, of each position
};

class SavedReference {
 public:
  // Empty, to be filled.
  explicit SavedReference(ReferenceHeader header) : header_(std::move(header)) {}
  SavedReference(SavedReference&&) = default;
  SavedReference& operator=(SavedReference&&) = default;

  // Whether the file at `path` begins as one.
  static bool Is(const std::string& path);
  static Result<SavedReference> Load(const std::string& path);
  Status Save(const std::string& path) const;

  const ReferenceHeader& header() const { return header_; }
  // Of how many positions predictions are held.
  int64_t n_positions() const { return static_cast<int64_t>(windows_.size()) * n_scored(); }

  // What is kept of the logits at a position of a window, where `target` followed. The tail's tokens are
  // drawn by the window's tokens and the position: they are the same whenever it is made.
  Prediction Keep(std::span<const float> logits, TokenId target, std::span<const TokenId> window,
                  int64_t position) const;
  // One prediction for each scored position of the window (CHECKed).
  void Add(std::span<const TokenId> window, const std::vector<Prediction>& predictions);
  // Whether all of it can be compared with: n_ctx, the vocabulary and every window. The error says what to
  // do.
  Status Covers(const TokenWindows& windows, int64_t vocab_size) const;
  // Of a window that is covered (CHECKed). Fails where the file's bytes are damaged.
  Result<std::vector<Prediction>> Find(std::span<const TokenId> window) const;

 private:
  int64_t n_scored() const { return TokenWindows{.n_ctx = header_.n_ctx, .tokens = {}}.n_scored(); }
  size_t record_bytes() const;
  Status Parse();

  ReferenceHeader header_;
  std::string path_;                        // empty unless loaded
  std::shared_ptr<const MappedFile> file_;  // of what was loaded
  std::vector<std::unique_ptr<const std::string>> added_;
  std::vector<std::string> order_;                           // keys, as added or as in the file
  std::map<std::string, std::span<const uint8_t>> windows_;  // by the hash of their tokens
};

}  // namespace thimble
