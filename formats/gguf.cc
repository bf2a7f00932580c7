#include "formats/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace thimble {
namespace {

static_assert(std::endian::native == std::endian::little, "GGUF is read in place");

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kVersion = 3;
constexpr uint32_t kDefaultAlignment = 32;
constexpr size_t kMaxDimensions = 4;
constexpr size_t kMaxTensorName = 64;  // GGML_MAX_NAME, the terminating zero included when ggml reads
constexpr size_t kMaxKey = 1024;       // GGUF allows 65535, but errors quote keys

uint64_t RoundUp(uint64_t n, uint64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}

// Reads fields in order and remembers where it is for the errors.
class Reader {
 public:
  Reader(std::string path, std::span<const uint8_t> bytes) : path_(std::move(path)), bytes_(bytes) {}

  uint64_t offset() const { return offset_; }
  uint64_t left() const { return bytes_.size() - offset_; }

  template <typename... Args>
  tl::unexpected<Error> Fail(fmt::format_string<Args...> format, Args&&... args) const {
    return MakeError(ErrorCode::kCorrupt, "{}: at byte {}: {}", path_, offset_,
                     fmt::format(format, std::forward<Args>(args)...));
  }

  template <typename T>
  Result<T> Number(std::string_view field) {
    if (left() < sizeof(T)) return Fail("the file ends inside {}", field);
    T value;
    std::memcpy(&value, bytes_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  // In the file.
  Result<std::string_view> String(std::string_view field) {
    ASSIGN_OR_RETURN(const uint64_t length, Number<uint64_t>(field));
    if (length > left()) {
      offset_ -= sizeof(uint64_t);
      return Fail("the length of {} is {} bytes, but only {} are left", field, length,
                  left() - sizeof(uint64_t));
    }
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data() + offset_), length);
    offset_ += length;
    return text;
  }

  // A key or a tensor's name. Errors quote it, so damage must not make it half of the file.
  Result<std::string> Name(std::string_view field) {
    const uint64_t at = offset_;
    ASSIGN_OR_RETURN(const std::string_view name, String(field));
    if (name.size() <= kMaxKey) return std::string(name);
    offset_ = at;
    return Fail("{} is {} bytes long, more than {}", field, name.size(), kMaxKey);
  }

  // A number of elements, each at least `element_bytes` long in the file, so that nothing is allocated for a
  // lie.
  Result<uint64_t> Count(std::string_view field, uint64_t element_bytes) {
    ASSIGN_OR_RETURN(const uint64_t count, Number<uint64_t>(field));
    if (count > left() / element_bytes) {
      offset_ -= sizeof(uint64_t);
      return Fail("{} is {}, more than the file has room for", field, count);
    }
    return count;
  }

 private:
  std::string path_;
  std::span<const uint8_t> bytes_;
  uint64_t offset_ = 0;
};

template <typename T>
Result<MetadataValue> ReadValue(Reader& in, const std::string& key) {
  if constexpr (std::is_same_v<T, std::string>) {
    ASSIGN_OR_RETURN(const std::string_view text, in.String("the value of " + key));
    return MetadataValue(std::string(text));
  } else if constexpr (std::is_same_v<T, bool>) {
    ASSIGN_OR_RETURN(const uint8_t byte, in.Number<uint8_t>(key));
    if (byte > 1) return in.Fail("{} is a bool of value {}", key, byte);
    return MetadataValue(byte == 1);
  } else {
    ASSIGN_OR_RETURN(const T value, in.Number<T>(key));
    return MetadataValue(value);
  }
}

Result<MetadataValue> ReadStrings(Reader& in, const std::string& key) {
  ASSIGN_OR_RETURN(const uint64_t count, in.Count("the length of array " + key, sizeof(uint64_t)));
  const std::string field = "an element of " + key;
  Reader ahead = in;
  size_t bytes = 0;
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const std::string_view text, ahead.String(field));
    bytes += text.size();
  }
  StringList values;
  values.Reserve(count, bytes);
  for (uint64_t i = 0; i < count; ++i) {
    ASSIGN_OR_RETURN(const std::string_view text, in.String(field));
    values.Add(text);
  }
  return MetadataValue(std::move(values));
}

template <typename T>
Result<MetadataValue> ReadArray(Reader& in, const std::string& key) {
  ASSIGN_OR_RETURN(const uint64_t count, in.Count("the length of array " + key, sizeof(T)));
  std::vector<T> values;
  values.reserve(count);
  for (uint64_t i = 0; i < count; ++i) {
    if constexpr (std::is_same_v<T, bool>) {
      ASSIGN_OR_RETURN(const uint8_t byte, in.Number<uint8_t>(key));
      if (byte > 1) return in.Fail("{} holds a bool of value {}", key, byte);
      values.push_back(byte == 1);
    } else {
      ASSIGN_OR_RETURN(const T value, in.Number<T>(key));
      values.push_back(value);
    }
  }
  return MetadataValue(std::move(values));
}

// Calls f.operator()<T>() for the C++ type of a scalar metadata type.
template <typename F>
Result<MetadataValue> DispatchScalar(Reader& in, uint32_t type, const std::string& key, F f) {
  switch (static_cast<MetadataType>(type)) {
    case MetadataType::kU8:
      return f.template operator()<uint8_t>();
    case MetadataType::kI8:
      return f.template operator()<int8_t>();
    case MetadataType::kU16:
      return f.template operator()<uint16_t>();
    case MetadataType::kI16:
      return f.template operator()<int16_t>();
    case MetadataType::kU32:
      return f.template operator()<uint32_t>();
    case MetadataType::kI32:
      return f.template operator()<int32_t>();
    case MetadataType::kF32:
      return f.template operator()<float>();
    case MetadataType::kBool:
      return f.template operator()<bool>();
    case MetadataType::kString:
      return f.template operator()<std::string>();
    case MetadataType::kU64:
      return f.template operator()<uint64_t>();
    case MetadataType::kI64:
      return f.template operator()<int64_t>();
    case MetadataType::kF64:
      return f.template operator()<double>();
    case MetadataType::kArray:
      return in.Fail("{} is an array of arrays, which Thimble does not read", key);
  }
  return in.Fail("{} has the unknown value type {}", key, type);
}

Result<MetadataValue> ReadMetadataValue(Reader& in, const std::string& key) {
  ASSIGN_OR_RETURN(const uint32_t type, in.Number<uint32_t>("the value type of " + key));
  if (type != static_cast<uint32_t>(MetadataType::kArray)) {
    return DispatchScalar(in, type, key, [&]<typename T>() { return ReadValue<T>(in, key); });
  }
  ASSIGN_OR_RETURN(const uint32_t element, in.Number<uint32_t>("the element type of " + key));
  return DispatchScalar(in, element, key, [&]<typename T>() {
    if constexpr (std::is_same_v<T, std::string>)
      return ReadStrings(in, key);
    else
      return ReadArray<T>(in, key);
  });
}

struct PendingTensor {
  TensorInfo info;
  uint64_t offset = 0;  // from the start of the data
  uint64_t size = 0;
};

// Bytes of a tensor, or nothing if the shape's product overflows.
std::optional<uint64_t> TensorBytes(const WeightTypeInfo& type, const std::vector<int64_t>& shape) {
  uint64_t elements = 1;
  for (const int64_t d : shape) {
    if (__builtin_mul_overflow(elements, static_cast<uint64_t>(d), &elements)) return std::nullopt;
  }
  if (elements > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) return std::nullopt;
  const int64_t row = shape.empty() ? 1 : shape.back();
  const uint64_t rows = elements / static_cast<uint64_t>(row),
                 half = row % type.block_size != 0 ? type.half_bytes : 0;
  uint64_t bytes = 0;
  if (__builtin_mul_overflow(rows * static_cast<uint64_t>(row / type.block_size), uint64_t{type.block_bytes},
                             &bytes) ||
      __builtin_add_overflow(bytes, rows * half, &bytes)) {
    return std::nullopt;
  }
  return bytes;
}

Result<PendingTensor> ReadTensorInfo(Reader& in) {
  PendingTensor tensor;
  ASSIGN_OR_RETURN(tensor.info.name, in.Name("a tensor's name"));
  const std::string& name = tensor.info.name;
  ASSIGN_OR_RETURN(const uint32_t n_dimensions, in.Number<uint32_t>("the dimensions of " + name));
  if (n_dimensions > kMaxDimensions) return in.Fail("tensor '{}' has {} dimensions", name, n_dimensions);
  for (uint32_t i = 0; i < n_dimensions; ++i) {
    ASSIGN_OR_RETURN(const uint64_t d, in.Number<uint64_t>("the shape of " + name));
    if (d == 0 || d > static_cast<uint64_t>(std::numeric_limits<int64_t>::max())) {
      return in.Fail("tensor '{}' has a dimension of {}", name, d);
    }
    tensor.info.shape.push_back(static_cast<int64_t>(d));
  }
  std::reverse(tensor.info.shape.begin(), tensor.info.shape.end());  // GGUF has the contiguous one first
  ASSIGN_OR_RETURN(const uint32_t number, in.Number<uint32_t>("the type of " + name));
  const WeightTypeInfo* type = FindWeightType(number);
  if (!type) return in.Fail("tensor '{}' has the weight type {}, which Thimble does not know", name, number);
  tensor.info.type = type->type;
  if (!RowFits(type->type, tensor.info.row_size())) {
    return in.Fail("tensor '{}' has rows of {} weights, which in {} are multiples of {}", name,
                   tensor.info.row_size(), type->name, RowUnit(type->type));
  }
  const std::optional<uint64_t> size = TensorBytes(*type, tensor.info.shape);
  if (!size) return in.Fail("the size of tensor '{}' overflows", name);
  tensor.size = *size;
  ASSIGN_OR_RETURN(tensor.offset, in.Number<uint64_t>("the offset of " + name));
  return tensor;
}

Result<uint32_t> ReadHeader(Reader& in) {
  ASSIGN_OR_RETURN(const uint32_t magic, in.Number<uint32_t>("the magic number"));
  if (magic != kMagic) return in.Fail("this is not a GGUF file (it does not start with \"GGUF\")");
  ASSIGN_OR_RETURN(const uint32_t version, in.Number<uint32_t>("the version"));
  if (version == __builtin_bswap32(2) || version == __builtin_bswap32(3)) {
    return in.Fail("the file is big-endian, which Thimble does not read");
  }
  if (version != 2 && version != 3) return in.Fail("GGUF version {} is not supported (2 and 3 are)", version);
  return version;
}

Result<uint32_t> Alignment(const Metadata& metadata, const std::string& path) {
  const MetadataValue* value = metadata.Find("general.alignment");
  if (!value) return kDefaultAlignment;
  const std::optional<int64_t> alignment = value->AsInt();
  if (!alignment || *alignment < 1 || *alignment > (1 << 20) ||
      !std::has_single_bit(static_cast<uint64_t>(*alignment))) {
    return MakeError(ErrorCode::kCorrupt, "{}: general.alignment is {}, not a power of two", path,
                     value->ToString());
  }
  return static_cast<uint32_t>(*alignment);
}

// Offsets must be aligned, inside the file, and of tensors that do not overlap.
Status PlaceTensors(std::vector<PendingTensor> pending, GgufFile* gguf) {
  const std::span<const uint8_t> bytes = gguf->file->bytes();
  const uint64_t room = bytes.size() >= gguf->data_offset ? bytes.size() - gguf->data_offset : 0;
  const std::string& path = gguf->file->path();
  std::vector<std::pair<uint64_t, uint64_t>> ranges;
  for (PendingTensor& tensor : pending) {
    const std::string name = tensor.info.name;
    if (tensor.offset % gguf->alignment != 0) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' starts at offset {}, not a multiple of {}", path,
                       name, tensor.offset, gguf->alignment);
    }
    if (tensor.offset > room || tensor.size > room - tensor.offset) {
      return MakeError(
          ErrorCode::kCorrupt,
          "{}: tensor '{}' needs {} bytes at byte {}, but the file ends at byte {} (is it truncated?)", path,
          name, tensor.size, gguf->data_offset + tensor.offset, bytes.size());
    }
    tensor.info.bytes = bytes.subspan(gguf->data_offset + tensor.offset, tensor.size);
    ranges.emplace_back(tensor.offset, tensor.offset + tensor.size);
    if (!gguf->tensors.Add(std::move(tensor.info))) {
      return MakeError(ErrorCode::kCorrupt, "{}: tensor '{}' appears twice", path, name);
    }
  }
  std::sort(ranges.begin(), ranges.end());
  for (size_t i = 1; i < ranges.size(); ++i) {
    if (ranges[i].first < ranges[i - 1].second) {
      return MakeError(ErrorCode::kCorrupt, "{}: two tensors overlap at byte {}", path,
                       gguf->data_offset + ranges[i].first);
    }
  }
  return {};
}

}  // namespace

Result<GgufFile> ReadGguf(const std::string& path) {
  GgufFile gguf;
  ASSIGN_OR_RETURN(gguf.file, MappedFile::Open(path));
  Reader in(path, gguf.file->bytes());
  ASSIGN_OR_RETURN(gguf.version, ReadHeader(in));
  // Smallest tensor entry: name length, dimensions, type, offset. Smallest key: length, type, one byte.
  ASSIGN_OR_RETURN(const uint64_t n_tensors, in.Count("the number of tensors", 24));
  ASSIGN_OR_RETURN(const uint64_t n_keys, in.Count("the number of metadata keys", 13));
  for (uint64_t i = 0; i < n_keys; ++i) {
    ASSIGN_OR_RETURN(const std::string key, in.Name("a metadata key"));
    if (gguf.metadata.Has(key)) return in.Fail("metadata key '{}' appears twice", key);
    ASSIGN_OR_RETURN(MetadataValue value, ReadMetadataValue(in, key));
    gguf.metadata.Set(key, std::move(value));
  }
  ASSIGN_OR_RETURN(gguf.alignment, Alignment(gguf.metadata, path));
  std::vector<PendingTensor> pending;
  for (uint64_t i = 0; i < n_tensors; ++i) {
    ASSIGN_OR_RETURN(PendingTensor tensor, ReadTensorInfo(in));
    pending.push_back(std::move(tensor));
  }
  gguf.data_offset = RoundUp(in.offset(), gguf.alignment);
  RETURN_IF_ERROR(PlaceTensors(std::move(pending), &gguf));
  return gguf;
}

// --- Writing ---

namespace {

template <typename T>
void Append(std::string* out, T value) {
  out->append(reinterpret_cast<const char*>(&value), sizeof(value));
}

void AppendString(std::string* out, std::string_view text) {
  Append<uint64_t>(out, text.size());
  out->append(text);
}

template <typename T>
void AppendElement(std::string* out, const T& value) {
  if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, std::string_view>)
    AppendString(out, value);
  else if constexpr (std::is_same_v<T, bool>)
    Append<uint8_t>(out, value ? 1 : 0);
  else
    Append(out, value);
}

void AppendValue(std::string* out, const MetadataValue& value) {
  Append(out, static_cast<uint32_t>(value.type()));
  if (value.is_array()) {
    Append(out, static_cast<uint32_t>(value.element_type()));
    Append<uint64_t>(out, value.size());
  }
  std::visit(
      [&](const auto& v) {
        using T = std::decay_t<decltype(v)>;
        if constexpr (std::is_arithmetic_v<T> || std::is_same_v<T, std::string>) {
          AppendElement(out, v);
        } else {
          for (size_t i = 0; i < v.size(); ++i) AppendElement<typename T::value_type>(out, v[i]);
        }
      },
      value.storage());
}

Status CheckDeclaration(const std::string& path, const GgufWriter::Declaration& tensor) {
  const WeightTypeInfo& type = Info(tensor.type);
  if (tensor.name.size() >= kMaxTensorName) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: the tensor name '{}' is longer than GGUF's 63 bytes",
                     path, tensor.name);
  }
  if (tensor.shape.size() > kMaxDimensions) {
    return MakeError(ErrorCode::kInvalidArgument, "{}: tensor '{}' has {} dimensions, GGUF has 4 at most",
                     path, tensor.name, tensor.shape.size());
  }
  for (const int64_t d : tensor.shape) {
    if (d < 1) return MakeError(ErrorCode::kInvalidArgument, "{}: tensor '{}' is empty", path, tensor.name);
  }
  const int64_t row = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (!RowFits(type.type, row)) {
    return MakeError(ErrorCode::kInvalidArgument,
                     "{}: tensor '{}': rows of {} weights, which in {} are multiples of {}", path,
                     tensor.name, row, type.name, RowUnit(type.type));
  }
  return {};
}

struct Header {
  std::string bytes;  // up to the tensors' data
  std::vector<uint64_t> sizes;
  uint32_t alignment;
  uint64_t file_bytes;
};

Result<Header> MakeHeader(const std::string& path, const Metadata& metadata,
                          const std::vector<GgufWriter::Declaration>& tensors) {
  for (const GgufWriter::Declaration& tensor : tensors) RETURN_IF_ERROR(CheckDeclaration(path, tensor));
  Header header;
  ASSIGN_OR_RETURN(header.alignment, Alignment(metadata, path));
  std::string& out = header.bytes;
  Append(&out, kMagic);
  Append(&out, kVersion);
  Append<uint64_t>(&out, tensors.size());
  Append<uint64_t>(&out, metadata.entries().size());
  for (const auto& [key, value] : metadata.entries()) {
    AppendString(&out, key);
    AppendValue(&out, value);
  }
  uint64_t offset = 0;
  for (const GgufWriter::Declaration& tensor : tensors) {
    AppendString(&out, tensor.name);
    Append(&out, static_cast<uint32_t>(tensor.shape.size()));
    for (auto d = tensor.shape.rbegin(); d != tensor.shape.rend(); ++d)
      Append(&out, static_cast<uint64_t>(*d));
    Append(&out, static_cast<uint32_t>(tensor.type));
    Append(&out, offset);
    const std::optional<uint64_t> size = TensorBytes(Info(tensor.type), tensor.shape);
    if (!size) {
      return MakeError(ErrorCode::kInvalidArgument, "{}: the size of tensor '{}' overflows", path,
                       tensor.name);
    }
    header.sizes.push_back(*size);
    offset += RoundUp(*size, header.alignment);
  }
  out.resize(RoundUp(out.size(), header.alignment), '\0');
  header.file_bytes = out.size() + offset;
  return header;
}

}  // namespace

Result<uint64_t> GgufWriter::FileBytes(const Metadata& metadata, const std::vector<Declaration>& tensors) {
  ASSIGN_OR_RETURN(const Header header, MakeHeader("GGUF", metadata, tensors));
  return header.file_bytes;
}

Result<GgufWriter> GgufWriter::Create(const std::string& path, const Metadata& metadata,
                                      const std::vector<Declaration>& tensors) {
  ASSIGN_OR_RETURN(Header header, MakeHeader(path, metadata, tensors));
  ASSIGN_OR_RETURN(AtomicFile file, AtomicFile::Create(path));
  RETURN_IF_ERROR(file.Write(header.bytes));
  GgufWriter writer(std::move(file));
  writer.path_ = path;
  writer.alignment_ = header.alignment;
  writer.sizes_ = std::move(header.sizes);
  return writer;
}

Status GgufWriter::Write(std::span<const uint8_t> bytes) {
  CHECK(tensor_ < sizes_.size());                     // more tensors written than declared
  CHECK(bytes.size() <= sizes_[tensor_] - written_);  // more bytes written than the tensor has
  RETURN_IF_ERROR(file_.Write(bytes.data(), bytes.size()));
  written_ += bytes.size();
  if (written_ < sizes_[tensor_]) return {};
  const std::string padding(RoundUp(written_, alignment_) - written_, '\0');
  ++tensor_;
  written_ = 0;
  return file_.Write(padding);
}

Status GgufWriter::Finish() {
  CHECK(tensor_ == sizes_.size());  // tensors declared but not written
  return file_.Commit();
}

}  // namespace thimble
