// predict MODEL.onnx [IMAGE.png ...]
// predict --examples docs/port-examples.json
//
// Replays the golden vectors of a model exported by tfproj, then predicts PNG images. Or compares
// this program with the examples for ports. One JSON object per line on stdout; exit code 1 where
// an answer is not reproduced.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iostream>
#include <iterator>

#include <openvino/openvino.hpp>

#include "image.hpp"
#include "mask.hpp"
#include "metadata.hpp"

using nlohmann::json;

namespace {

Bytes file_bytes(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) throw std::runtime_error(path + ": cannot be read");
  return {std::istreambuf_iterator<char>(file), {}};
}

struct Answer {
  std::vector<float> probabilities;  // (classes), or (height, width, classes)
  int height, width;  // of the picture, upright
};

class Model {
 public:
  explicit Model(const std::string& path) : record(read_metadata(file_bytes(path))) {
    // Else OpenVINO computes in bfloat16 where the CPU has it.
    compiled_ = ov::Core().compile_model(path, "CPU",
                                         ov::hint::inference_precision(ov::element::f32));
    request_ = compiled_.create_infer_request();
    height = record.at("height"), width = record.at("width"), channels = record.at("channels");
    classes = static_cast<int>(record.at("classes").size());
  }

  Answer run(const Bytes& png) {
    const Picture picture = decode(png, channels);
    Picture image = resized(picture, height, width, record.value("resize", "stretch"));
    const ov::Shape shape{1, std::size_t(height), std::size_t(width), std::size_t(channels)};
    request_.set_tensor("image", ov::Tensor(ov::element::u8, shape, image.pixels.data()));
    request_.infer();
    const ov::Tensor found = request_.get_tensor("probabilities");
    const float* values = found.data<float>();
    return {{values, values + found.get_size()}, picture.height, picture.width};
  }

  const json record;
  int height, width, channels, classes;

 private:
  ov::CompiledModel compiled_;
  ov::InferRequest request_;
};

// Largest difference to a golden vector, which may hold every stride-th row and column only.
double difference_to(const json& vector, const Answer& answer, const Model& model) {
  const Bytes bytes = from_base64(vector.at("probabilities_base64"));
  const std::vector<int> shape = vector.at("shape");
  const int stride = vector.value("stride", 1);
  double worst = 0;
  for (std::size_t i = 0; i < bytes.size() / 4; i++) {
    std::size_t at = i;
    if (shape.size() == 3) {
      const std::size_t c = i % model.classes, pixel = i / model.classes;
      at = (pixel / shape[1] * stride * model.width + pixel % shape[1] * stride) * model.classes + c;
    }
    float expected;  // little-endian, as this machine
    std::memcpy(&expected, &bytes[4 * i], 4);
    const double difference = std::abs(double{answer.probabilities.at(at)} - expected);
    if (!(difference <= worst)) worst = difference;  // NaN becomes the worst
  }
  return worst;
}

// The most probable class, all labels, or the share of each class among the picture's pixels.
json summary(const Answer& answer, const Model& model) {
  const json& names = model.record.at("classes");
  if (model.record.at("task") == "classify") {
    const auto& p = answer.probabilities;
    const auto best = std::max_element(p.begin(), p.end());  // the first of equal ones
    json found = {{"label", names[best - p.begin()]}, {"probability", *best}};
    if (!model.record.value("multi_label", false)) return found;
    found["labels"] = json::array();
    for (std::size_t c = 0; c < p.size(); c++)
      if (double{p[c]} >= model.record.at("thresholds")[c].get<double>())
        found["labels"].push_back(names[c]);
    return found;
  }
  Box box{0, 0, model.height, model.width};
  if (model.record.value("resize", "stretch") == "letterbox")
    box = inner_box(answer.height, answer.width, model.height, model.width);
  std::vector<float> shown;  // the probabilities without what stands beside the picture
  for (int y = box.top; y < box.top + box.rows; y++) {
    const auto row = answer.probabilities.begin() +
                     (std::ptrdiff_t{1} * y * model.width + box.left) * model.classes;
    shown.insert(shown.end(), row, row + std::ptrdiff_t{1} * box.columns * model.classes);
  }
  const Bytes mask = mask_of_size(shown.data(), box.rows, box.columns, model.classes,
                                  answer.height, answer.width);
  json shares;
  for (int c = 0; c < model.classes; c++)
    shares[std::string(names[c])] = double(std::count(mask.begin(), mask.end(), c)) / mask.size();
  return {{"shares", shares}};
}

bool right_pixels(const json& example) {
  const Picture picture = decode(from_base64(example.at("png_base64")), example.at("channels"));
  const Picture found =
      resized(picture, example.at("height"), example.at("width"), example.at("resize"));
  return found.pixels == from_base64(example.at("pixels_base64"));
}

bool right_mask(const json& masks, const json& example) {
  const Bytes bytes = from_base64(masks.at("probabilities_base64"));
  std::vector<float> probabilities(bytes.size() / 4);
  std::memcpy(probabilities.data(), bytes.data(), bytes.size());
  const std::vector<int> shape = masks.at("shape"), size = example.at("size");
  const Bytes mask =
      mask_of_size(probabilities.data(), shape[0], shape[1], shape[2], size[0], size[1]);
  std::string expected, found;
  for (const json& row : example.at("rows")) expected += row.get<std::string>();
  for (std::uint8_t c : mask) found += static_cast<char>('0' + c);
  return found == expected;
}

bool right_probabilities(const json& example) {
  std::vector<double> p = example.at("scores");
  const double largest = *std::max_element(p.begin(), p.end());
  double sum = 0;
  for (double& score : p)
    sum += score = std::exp((score - largest) / example.at("temperature").get<double>());
  bool good = true;
  for (std::size_t i = 0; i < p.size(); i++)
    good &= std::abs(p[i] / sum - example.at("probabilities")[i].get<double>()) <= 2e-6;
  return good;
}

int replay(const json& examples) {
  bool failed = false;
  const auto say = [&](const json& name, bool good) {
    failed |= !good;
    std::cout << json{{"example", name}, {"good", good}} << "\n";
  };
  for (const json& one : examples.at("images")) say(one.at("name"), right_pixels(one));
  const json& masks = examples.at("masks");
  for (const json& one : masks.at("masks")) say(one.at("size"), right_mask(masks, one));
  for (const json& one : examples.at("calibration"))
    say(one.at("temperature"), right_probabilities(one));
  return failed;
}

int run(int count, char** arguments) {
  const bool examples = count > 1 && std::strcmp(arguments[1], "--examples") == 0;
  if (count < 2 || (examples && count != 3)) {
    std::cerr << "usage: predict MODEL.onnx [IMAGE.png ...], or predict --examples FILE.json\n";
    return 2;
  }
  if (examples) return replay(json::parse(file_bytes(arguments[2])));
  Model model(arguments[1]);
  const json& golden = model.record.at("golden");
  bool failed = false;
  for (const json& vector : golden.at("vectors")) {
    const Answer answer = model.run(from_base64(vector.at("image_base64")));
    const double difference = difference_to(vector, answer, model);
    const bool good = difference <= golden.at("tolerance").get<double>();
    failed |= !good;
    std::cout << json{{"golden", vector.at("name")}, {"difference", difference}, {"good", good}}
              << "\n";
  }
  for (int i = 2; i < count; i++) {
    const std::string path = arguments[i];
    const Bytes file = file_bytes(path);
    json line;
    try {
      line = summary(model.run(file), model);
    } catch (const std::exception& error) {
      throw std::runtime_error(path + ": " + error.what());
    }
    line["image"] = path;
    std::cout << line << "\n";
  }
  return failed;
}

}  // namespace

int main(int count, char** arguments) {
  try {
    return run(count, arguments);
  } catch (const std::exception& error) {
    std::cerr << "error: " << error.what() << "\n";
    return 1;
  }
}
