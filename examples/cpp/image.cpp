#include "image.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <stdexcept>

#include <png.h>

namespace {

constexpr int kBits = 22;  // of the fixed-point coefficients, as in Pillow: 32 - 8 - 2
constexpr std::uint8_t kPad = 114;  // grey around a letterboxed picture, in each channel
constexpr int kOrientation = 0x0112;  // EXIF tag

struct Source {
  const Bytes& bytes;
  std::size_t at;
};

void read(png_structp png, png_bytep out, png_size_t count) {
  auto* source = static_cast<Source*>(png_get_io_ptr(png));
  if (source->bytes.size() - source->at < count) png_error(png, "the file ends too early");
  std::memcpy(out, source->bytes.data() + source->at, count);
  source->at += count;
}

[[noreturn]] void fail(png_structp, png_const_charp message) { throw std::runtime_error(message); }

void ignore(png_structp, png_const_charp) {}

// libpng's two structures, freed together.
struct Reader {
  explicit Reader(Source& source) {
    png = png_create_read_struct(PNG_LIBPNG_VER_STRING, nullptr, fail, ignore);
    info = png_create_info_struct(png);
    end = png_create_info_struct(png);
    png_set_read_fn(png, &source, read);
  }
  ~Reader() { png_destroy_read_struct(&png, &info, &end); }
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;

  png_structp png;
  png_infop info, end;  // what stands before the pixels, and what behind
};

// The orientation that an EXIF block says, 1 where it says none.
int orientation_of(png_structp png, png_infop info) {
  png_uint_32 count = 0;
  png_bytep exif = nullptr;
  if (!png_get_eXIf_1(png, info, &count, &exif) || count < 14) return 1;
  const bool little = exif[0] == 'I';
  const auto number = [&](std::size_t at, int bytes) -> std::uint32_t {
    if (at + bytes > count) return 0;
    std::uint32_t value = 0;
    for (int i = 0; i < bytes; i++) value = value << 8 | exif[at + (little ? bytes - 1 - i : i)];
    return value;
  };
  const std::size_t directory = number(4, 4);
  for (std::size_t i = 0; i < number(directory, 2); i++) {
    const std::size_t entry = directory + 2 + 12 * i;
    if (number(entry, 2) == kOrientation) return static_cast<int>(number(entry + 8, 2));
  }
  return 1;
}

// One channel over white, in the 15-bit arithmetic of Pillow's alpha_composite.
std::uint8_t on_white(int value, int alpha) {
  if (alpha == 0) return 255;
  const int sum = value * alpha * 128 + 255 * (255 - alpha) * 128 + (0x80 << 7);
  return static_cast<std::uint8_t>(((sum >> 8) + sum) >> 8 >> 7);
}

// RGBA of 8 bits to luma (ITU-R 601) or RGB, on white.
Picture converted(const Picture& rgba, int channels) {
  Picture out{rgba.height, rgba.width, channels, Bytes(rgba.pixels.size() / 4 * channels)};
  for (std::size_t i = 0; i < rgba.pixels.size() / 4; i++) {
    const std::uint8_t* pixel = &rgba.pixels[4 * i];
    std::uint8_t rgb[3];
    for (int c = 0; c < 3; c++) rgb[c] = on_white(pixel[c], pixel[3]);
    if (channels == 3) {
      std::copy(rgb, rgb + 3, &out.pixels[3 * i]);
    } else {
      const int luma = rgb[0] * 19595 + rgb[1] * 38470 + rgb[2] * 7471 + 0x8000;
      out.pixels[i] = static_cast<std::uint8_t>(luma >> 16);
    }
  }
  return out;
}

// Rows become columns.
Picture transposed(const Picture& in) {
  Picture out{in.width, in.height, in.channels, Bytes(in.pixels.size())};
  for (int y = 0; y < in.height; y++)
    for (int x = 0; x < in.width; x++)
      std::copy_n(&in.pixels[(std::size_t{1} * y * in.width + x) * in.channels], in.channels,
                  &out.pixels[(std::size_t{1} * x * in.height + y) * in.channels]);
  return out;
}

// Rows, or columns, in the reverse order.
Picture mirrored(const Picture& in, bool rows, bool columns) {
  Picture out = in;
  for (int y = 0; y < in.height; y++)
    for (int x = 0; x < in.width; x++) {
      const int from_y = rows ? in.height - 1 - y : y, from_x = columns ? in.width - 1 - x : x;
      std::copy_n(&in.pixels[(std::size_t{1} * from_y * in.width + from_x) * in.channels],
                  in.channels, &out.pixels[(std::size_t{1} * y * in.width + x) * in.channels]);
    }
  return out;
}

// EXIF's eight orientations; any other number turns nothing.
Picture upright(const Picture& in, int orientation) {
  switch (orientation) {
    case 2: return mirrored(in, false, true);
    case 3: return mirrored(in, true, true);
    case 4: return mirrored(in, true, false);
    case 5: return transposed(in);
    case 6: return mirrored(transposed(in), false, true);
    case 7: return mirrored(transposed(in), true, true);
    case 8: return mirrored(transposed(in), true, false);
    default: return in;
  }
}

// Resample each row to `width` pixels.
Picture resampled(const Picture& in, int width) {
  Picture out{in.height, width, in.channels,
              Bytes(std::size_t{1} * in.height * width * in.channels)};
  for (int x = 0; x < width; x++) {
    const Triangle taps = triangle(x, in.width, width);
    std::vector<std::int32_t> k;
    for (double w : taps.weights)
      k.push_back(static_cast<std::int32_t>(0.5 + w / taps.total * (1 << kBits)));
    for (int y = 0; y < in.height; y++)
      for (int c = 0; c < in.channels; c++) {
        std::int32_t sum = 1 << (kBits - 1);
        for (std::size_t i = 0; i < k.size(); i++) {
          const std::size_t at = std::size_t{1} * y * in.width + taps.first + i;
          sum += k[i] * in.pixels[at * in.channels + c];
        }
        out.pixels[(std::size_t{1} * y * width + x) * in.channels + c] =
            static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255));
      }
  }
  return out;
}

// The width first, then the height, 8 bits in between.
Picture stretched(Picture picture, int height, int width) {
  if (picture.width != width) picture = resampled(picture, width);
  if (picture.height == height) return picture;
  return transposed(resampled(transposed(picture), height));
}

// a / b to the nearest whole number, half up, at least 1.
int nearest(std::int64_t a, std::int64_t b) {
  return static_cast<int>(std::max<std::int64_t>(1, (2 * a + b) / (2 * b)));
}

// `part` into `out`, or a part of `in` of its size: from (top, left) of the larger one on.
void copy_rows(const Picture& in, int in_top, int in_left, Picture& out, int top, int left, int rows,
               int columns) {
  for (int y = 0; y < rows; y++)
    std::copy_n(&in.pixels[(std::size_t{1} * (in_top + y) * in.width + in_left) * in.channels],
                columns * in.channels,
                &out.pixels[(std::size_t{1} * (top + y) * out.width + left) * out.channels]);
}

}  // namespace

Picture decode(const Bytes& file, int channels) {
  Source source{file, 0};
  Reader reader(source);
  png_structp png = reader.png;
  png_read_info(png, reader.info);
  const int height = png_get_image_height(png, reader.info);
  const int width = png_get_image_width(png, reader.info);
  const bool grey16 = png_get_color_type(png, reader.info) == PNG_COLOR_TYPE_GRAY &&
                      png_get_bit_depth(png, reader.info) == 16;
  png_color_16p transparent = nullptr;
  if (!grey16 || !png_get_tRNS(png, reader.info, nullptr, nullptr, &transparent))
    transparent = nullptr;
  if (!grey16) {
    png_set_expand(png);  // palettes, grey of fewer bits, tRNS
    png_set_strip_16(png);  // the high byte
    png_set_gray_to_rgb(png);
    png_set_add_alpha(png, 255, PNG_FILLER_AFTER);
  }
  png_set_interlace_handling(png);
  png_read_update_info(png, reader.info);
  const std::size_t stride = png_get_rowbytes(png, reader.info);
  Bytes raw(stride * height);
  std::vector<png_bytep> rows;
  for (int y = 0; y < height; y++) rows.push_back(&raw[stride * y]);
  png_read_image(png, rows.data());
  png_read_end(png, reader.end);
  Picture rgba{height, width, 4, std::move(raw)};
  if (grey16) {
    const Bytes values = std::move(rgba.pixels);
    rgba.pixels.assign(std::size_t{4} * height * width, 255);
    for (std::size_t i = 0; i < values.size() / 2; i++) {
      const int value = values[2 * i] << 8 | values[2 * i + 1];
      const bool white = transparent && value == transparent->gray;
      std::fill_n(&rgba.pixels[4 * i], 3, white ? 255 : (value + 128) / 257);
    }
  }
  const int before = orientation_of(png, reader.info);
  const int turn = before != 1 ? before : orientation_of(png, reader.end);
  return upright(converted(rgba, channels), turn);
}

Triangle triangle(int x, int size, int new_size) {
  const double scale = static_cast<double>(size) / new_size;
  const double support = std::max(1.0, scale);
  const double centre = (x + 0.5) * scale;
  Triangle taps{std::max(0, static_cast<int>(centre - support + 0.5)), {}, 0};
  const int end = std::min(size, static_cast<int>(centre + support + 0.5));
  for (int i = taps.first; i < end; i++) {
    taps.weights.push_back(std::max(0.0, 1 - std::abs((i - centre + 0.5) / support)));
    taps.total += taps.weights.back();
  }
  return taps;
}

Box inner_box(int picture_height, int picture_width, int height, int width) {
  const std::int64_t h = picture_height, w = picture_width;
  const bool wide = w * height > h * width;
  const int rows = wide ? nearest(h * width, w) : height;
  const int columns = wide ? width : nearest(w * height, h);
  return {(height - rows) / 2, (width - columns) / 2, rows, columns};
}

Picture resized(const Picture& in, int height, int width, const std::string& policy) {
  if (policy == "stretch") return stretched(in, height, width);
  const std::int64_t h = in.height, w = in.width;
  const bool wide = w * height > h * width;
  if (policy == "crop") {
    const int rows = wide ? in.height : nearest(w * height, width);
    const int columns = wide ? nearest(h * width, height) : in.width;
    Picture part{rows, columns, in.channels, Bytes(std::size_t{1} * rows * columns * in.channels)};
    copy_rows(in, (in.height - rows) / 2, (in.width - columns) / 2, part, 0, 0, rows, columns);
    return stretched(part, height, width);
  }
  if (policy == "letterbox") {
    const Box box = inner_box(in.height, in.width, height, width);
    Picture out{height, width, in.channels,
                Bytes(std::size_t{1} * height * width * in.channels, kPad)};
    copy_rows(stretched(in, box.rows, box.columns), 0, 0, out, box.top, box.left, box.rows,
              box.columns);
    return out;
  }
  throw std::runtime_error("resize " + policy + ": not known to this program");
}
