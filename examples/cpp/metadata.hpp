// What an ONNX file says about itself. It is a ModelProto, whose field 14 (metadata_props) repeats a
// message of key (1) and value (2). Wire format: https://protobuf.dev/programming-guides/encoding/
#pragma once
#include <nlohmann/json.hpp>

#include "image.hpp"

// The JSON object that tfproj stored in the file; std::runtime_error where there is none.
nlohmann::json read_metadata(const Bytes& file);

// The bytes that a text of the metadata holds in base64.
Bytes from_base64(const std::string& text);
