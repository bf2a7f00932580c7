#include "formats/safetensors.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <filesystem>
#include <set>

#include "base/json.h"

namespace thimble {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // as the safetensors library has it

constexpr std::array<std::pair<std::string_view, WeightType>, 8> kDtypes = {{{"F32", WeightType::kF32},
                                                                             {"F16", WeightType::kF16},
                                                                             {"BF16", WeightType::kBF16},
                                                                             {"F64", WeightType::kF64},
                                                                             {"I8", WeightType::kI8},
                                                                             {"I16", WeightType::kI16},
                                                                             {"I32", WeightType::kI32},
                                                                             {"I64", WeightType::kI64}}};

std::optional<uint64_t> UnsignedOf(const Json& value) {
  if (!value.is_number_integer()) return std::nullopt;
  if (!value.is_number_unsigned() && value.get<int64_t>() < 0) return std::nullopt;
  return value.get<uint64_t>();
}

struct Range {
  uint64_t begin, end;
};

Result<std::vector<int64_t>> ParseShape(const Json& entry, const std::string& where) {
  const auto shape = entry.find("shape");
  if (shape == entry.end() || !shape->is_array()) {
    return MakeError(ErrorCode::kCorrupt, "{}: \"shape\" is missing or not a list", where);
  }
  std::vector<int64_t> out;
  for (const Json& d : *shape) {
    const std::optional<uint64_t> value = UnsignedOf(d);
    if (!value || *value > static_cast<uint64_t>(INT64_MAX)) {
      return MakeError(ErrorCode::kCorrupt, "{}: \"shape\" holds {}", where, DumpJson(d));
    }
    out.push_back(static_cast<int64_t>(*value));
  }
  return out;
}

Result<Range> ParseOffsets(const Json& entry, uint64_t data_size, const std::string& where) {
  const auto offsets = entry.find("data_offsets");
  if (offsets == entry.end() || !offsets->is_array() || offsets->size() != 2) {
    return MakeError(ErrorCode::kCorrupt, "{}: \"data_offsets\" is missing or not a pair", where);
  }
  const std::optional<uint64_t> begin = UnsignedOf((*offsets)[0]), end = UnsignedOf((*offsets)[1]);
  if (!begin || !end || *begin > *end || *end > data_size) {
    return MakeError(ErrorCode::kCorrupt, "{}: data_offsets {} do not lie in the file's {} bytes of data",
                     where, DumpJson(*offsets), data_size);
  }
  return Range{*begin, *end};
}

Result<TensorInfo> ParseTensor(const std::string& name, const Json& entry, std::span<const uint8_t> data,
                               const std::string& path, Range* range) {
  const std::string where = fmt::format("{}: tensor '{}'", path, name);
  if (!entry.is_object()) return MakeError(ErrorCode::kCorrupt, "{}: not an object", where);
  const auto dtype = entry.find("dtype");
  if (dtype == entry.end() || !dtype->is_string()) {
    return MakeError(ErrorCode::kCorrupt, "{}: \"dtype\" is missing or not a string", where);
  }
  const auto known = std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& d) {
    return d.first == dtype->get_ref<const std::string&>();
  });
  if (known == kDtypes.end()) {
    return MakeError(ErrorCode::kUnsupported, "{}: dtype {} is not supported", where, DumpJson(*dtype));
  }
  TensorInfo tensor{.name = name, .type = known->second};
  ASSIGN_OR_RETURN(tensor.shape, ParseShape(entry, where));
  ASSIGN_OR_RETURN(*range, ParseOffsets(entry, data.size(), where));
  uint64_t bytes = Info(tensor.type).block_bytes;
  for (const int64_t d : tensor.shape) {
    if (__builtin_mul_overflow(bytes, static_cast<uint64_t>(d), &bytes)) {
      return MakeError(ErrorCode::kCorrupt, "{}: the shape's product overflows", where);
    }
  }
  if (bytes != range->end - range->begin) {
    return MakeError(ErrorCode::kCorrupt, "{}: the shape needs {} bytes, data_offsets give it {}", where,
                     bytes, range->end - range->begin);
  }
  tensor.bytes = data.subspan(range->begin, bytes);
  return tensor;
}

// The data must be covered exactly once, as the specification demands.
Status CheckCoverage(std::vector<Range> ranges, uint64_t data_size, const std::string& path) {
  std::sort(ranges.begin(), ranges.end(), [](const Range& a, const Range& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  uint64_t at = 0;
  for (const Range& range : ranges) {
    if (range.begin != at) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensors {} at data offset {}", path,
                       range.begin < at ? "overlap" : "leave a gap", std::min(range.begin, at));
    }
    at = range.end;
  }
  if (at != data_size) {
    return MakeError(ErrorCode::kCorrupt, "{}: the header describes {} bytes of data, the file has {}", path,
                     at, data_size);
  }
  return {};
}

Status ParseMetadata(const Json& value, const std::string& path,
                     std::map<std::string, std::string>* metadata) {
  if (!value.is_object()) return MakeError(ErrorCode::kCorrupt, "{}: __metadata__ is not an object", path);
  for (const auto& [key, text] : value.items()) {
    if (!text.is_string())
      return MakeError(ErrorCode::kCorrupt, "{}: __metadata__.{} is not a string", path, key);
    (*metadata)[key] = text.get<std::string>();
  }
  return {};
}

Result<std::string_view> HeaderText(const MappedFile& file) {
  const std::span<const uint8_t> bytes = file.bytes();
  uint64_t length = 0;
  if (bytes.size() < sizeof(length)) {
    return MakeError(ErrorCode::kCorrupt, "{}: at byte 0: the file ends inside the header's length",
                     file.path());
  }
  std::memcpy(&length, bytes.data(), sizeof(length));
  if (length > bytes.size() - sizeof(length) || length > kMaxHeaderBytes) {
    return MakeError(
        ErrorCode::kCorrupt,
        "{}: at byte 0: the header's length is {}, but the file has {} bytes (is it a safetensors file, and "
        "whole?)",
        file.path(), length, bytes.size());
  }
  return std::string_view(reinterpret_cast<const char*>(bytes.data()) + sizeof(length), length);
}

// Shard names come from a file, so they must not lead out of the folder.
bool IsPlainFileName(const std::string& name) {
  return !name.empty() && name != "." && name != ".." && name.find('/') == std::string::npos &&
         name.find('\0') == std::string::npos;
}

Result<SafetensorsFile> ReadShards(const std::string& directory, const std::string& index_path) {
  ASSIGN_OR_RETURN(const Json index, ReadJsonFile(index_path));
  const auto map = index.is_object() ? index.find("weight_map") : index.end();
  if (!index.is_object() || map == index.end() || !map->is_object()) {
    return MakeError(ErrorCode::kCorrupt, "{}: \"weight_map\" is missing or not an object", index_path);
  }
  std::map<std::string, std::string> home;  // tensor -> shard
  std::vector<std::string> shards;          // in the order of their first mention
  for (const auto& [tensor, shard] : map->items()) {
    if (!shard.is_string() || !IsPlainFileName(shard.get<std::string>())) {
      return MakeError(ErrorCode::kCorrupt, "{}: the shard of '{}' is not a plain file name: {}", index_path,
                       tensor, DumpJson(shard));
    }
    home[tensor] = shard.get<std::string>();
    if (std::find(shards.begin(), shards.end(), home[tensor]) == shards.end()) shards.push_back(home[tensor]);
  }
  SafetensorsFile all;
  for (const std::string& shard : shards) {
    ASSIGN_OR_RETURN(SafetensorsFile part, ReadSafetensors(directory + "/" + shard));
    all.files.insert(all.files.end(), part.files.begin(), part.files.end());
    all.metadata.merge(part.metadata);
    for (const TensorInfo& tensor : part.tensors) {
      const auto it = home.find(tensor.name);
      if (it == home.end() || it->second != shard) {
        return MakeError(ErrorCode::kCorrupt,
                         "{}: {} holds tensor '{}', which the index does not place there", index_path, shard,
                         tensor.name);
      }
      all.tensors.Add(tensor);
    }
  }
  if (all.tensors.size() != home.size()) {
    for (const auto& [tensor, shard] : home) {
      if (!all.tensors.Find(tensor)) {
        return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' is not in {}", index_path, tensor, shard);
      }
    }
  }
  return all;
}

std::string_view DtypeName(WeightType type) {
  const auto it =
      std::find_if(kDtypes.begin(), kDtypes.end(), [&](const auto& d) { return d.second == type; });
  return it == kDtypes.end() ? std::string_view() : it->first;
}

}  // namespace

Result<SafetensorsFile> ReadSafetensors(const std::string& path) {
  SafetensorsFile out;
  ASSIGN_OR_RETURN(auto file, MappedFile::Open(path));
  ASSIGN_OR_RETURN(const std::string_view text, HeaderText(*file));
  const std::span<const uint8_t> data = file->bytes().subspan(sizeof(uint64_t) + text.size());
  ASSIGN_OR_RETURN(const Json header, ParseJson(text, path + " (header)"));
  if (!header.is_object()) return MakeError(ErrorCode::kCorrupt, "{}: the header is not a JSON object", path);
  std::vector<Range> ranges;
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      RETURN_IF_ERROR(ParseMetadata(entry, path, &out.metadata));
      continue;
    }
    Range range{};
    ASSIGN_OR_RETURN(TensorInfo tensor, ParseTensor(name, entry, data, path, &range));
    ranges.push_back(range);
    if (!out.tensors.Add(std::move(tensor))) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' appears twice", path, name);
    }
  }
  RETURN_IF_ERROR(CheckCoverage(std::move(ranges), data.size(), path));
  out.files.push_back(std::move(file));
  return out;
}

Result<SafetensorsFile> ReadSafetensorsDirectory(const std::string& directory) {
  const std::string single = directory + "/model.safetensors",
                    index = directory + "/model.safetensors.index.json";
  std::error_code ec;
  if (std::filesystem::exists(single, ec)) return ReadSafetensors(single);
  if (std::filesystem::exists(index, ec)) return ReadShards(directory, index);
  return MakeError(ErrorCode::kNotFound,
                   "{}: there is neither model.safetensors nor model.safetensors.index.json", directory);
}

Result<SafetensorsWriter> SafetensorsWriter::Create(const std::string& path,
                                                    const std::vector<TensorDeclaration>& tensors,
                                                    const std::map<std::string, std::string>& metadata) {
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  uint64_t offset = 0;
  for (const TensorDeclaration& tensor : tensors) {
    const std::string_view dtype = DtypeName(tensor.type);
    if (dtype.empty()) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: tensor '{}': safetensors has no type for {}", path,
                       tensor.name, Name(tensor.type));
    }
    uint64_t end = offset + Info(tensor.type).block_bytes;
    for (const int64_t d : tensor.shape) end = offset + (end - offset) * static_cast<uint64_t>(d);
    header[tensor.name] = {{"dtype", dtype}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = DumpJson(header);
  text.resize((text.size() + 7) / 8 * 8, ' ');
  const uint64_t length = text.size();
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Write(&length, sizeof(length)));
  RETURN_IF_ERROR(file.Write(text));
  SafetensorsWriter writer(std::move(file));
  writer.end_ = writer.file_.offset() + offset;
  return writer;
}

Status SafetensorsWriter::Write(std::span<const uint8_t> bytes) {
  CHECK(bytes.size() <= end_ - file_.offset());  // more bytes written than declared
  return file_.Write(bytes.data(), bytes.size());
}

Status SafetensorsWriter::Finish() {
  CHECK(file_.offset() == end_);  // tensors declared but not written
  return file_.Commit();
}

Status WriteSafetensors(const std::string& path, const TensorTable& tensors,
                        const std::map<std::string, std::string>& metadata) {
  std::vector<TensorDeclaration> declarations;
  for (const TensorInfo& tensor : tensors) declarations.push_back({tensor.name, tensor.type, tensor.shape});
  ASSIGN_OR_RETURN(SafetensorsWriter writer, SafetensorsWriter::Create(path, declarations, metadata));
  for (const TensorInfo& tensor : tensors) RETURN_IF_ERROR(writer.Write(tensor.bytes));
  return writer.Finish();
}

}  // namespace thimble
