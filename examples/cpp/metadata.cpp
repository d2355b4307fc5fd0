#include "metadata.hpp"

#include <stdexcept>
#include <string_view>

namespace {

struct Field {
  int number;
  std::string_view value;  // empty where it is no text or message
};

[[noreturn]] void fail() { throw std::runtime_error("not an ONNX file"); }

std::uint64_t varint(std::string_view message, std::size_t& at) {
  std::uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (at >= message.size()) fail();
    const std::uint64_t byte = static_cast<unsigned char>(message[at++]);
    value |= (byte & 127) << shift;
    if (byte < 128) return value;
  }
  fail();
}

std::vector<Field> fields(std::string_view message) {
  std::vector<Field> found;
  for (std::size_t at = 0; at < message.size();) {
    const std::uint64_t key = varint(message, at);
    std::string_view value;
    const int wire = key & 7;
    if (wire == 0) {
      varint(message, at);
    } else {
      const std::uint64_t size = wire == 2 ? varint(message, at) : wire == 1 ? 8 : wire == 5 ? 4 : ~0ULL;
      if (size > message.size() - at) fail();
      value = message.substr(at, size);
      at += size;
    }
    found.push_back({static_cast<int>(key >> 3), value});
  }
  return found;
}

}  // namespace

nlohmann::json read_metadata(const Bytes& file) {
  const std::string_view message(reinterpret_cast<const char*>(file.data()), file.size());
  for (const Field& entry : fields(message)) {
    if (entry.number != 14) continue;
    std::string_view key, value;
    for (const Field& part : fields(entry.value)) (part.number == 1 ? key : value) = part.value;
    if (key != "tfproj") continue;
    auto record = nlohmann::json::parse(value);
    const int schema = record.at("schema");
    if (schema < 1 || schema > 3)
      throw std::runtime_error("a file of schema " + std::to_string(schema));
    return record;
  }
  throw std::runtime_error("an ONNX file, but not one that tfproj exported");
}

Bytes from_base64(const std::string& text) {
  static const std::string letters =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  Bytes out;
  std::uint32_t bits = 0;
  int count = 0;
  for (char letter : text) {
    if (letter == '=') break;
    const auto value = letters.find(letter);
    if (value == std::string::npos) throw std::runtime_error("not base64");
    bits = bits << 6 | static_cast<std::uint32_t>(value);
    if ((count += 6) >= 8) out.push_back(static_cast<std::uint8_t>(bits >> (count -= 8)));
  }
  return out;
}
