// Detections on one image, without Python:  aoti_detect PACKAGE IMAGE HEIGHT WIDTH LIBRARY...
//   PACKAGE  of `cascadezoo export NAME --format aoti --preprocess`, of an entry whose metadata has "bounds": "resized"
//   IMAGE    a binary PPM, 8 bits, already resized to the network's scale; HEIGHT, WIDTH: of the image as it was before
//   LIBRARY  cascadezoo_schemas.so, then cascadezoo_cpu.so, as `cascadezoo build-ops` makes them
// Prints a line for each detection: x1 y1 x2 y2 in original pixels, score, label (an index into "categories").
//
// T=$(python -c "import torch; print(torch.__path__[0])")
// g++ -std=c++20 -O2 main.cpp -o aoti_detect -isystem$T/include -L$T/lib \
//   -Wl,-rpath,$T/lib,--no-as-needed -ltorch -ltorch_cpu -lc10
#include <ATen/ATen.h>
#include <c10/core/InferenceMode.h>
#include <dlfcn.h>
#include <torch/csrc/inductor/aoti_package/model_package_loader.h>

#include <cstdio>
#include <fstream>
#include <stdexcept>
#include <string>

at::Tensor read_ppm(const char* path) {
  std::ifstream file(path, std::ios::binary);
  std::string magic;
  int64_t width = 0, height = 0, most = 0;
  file >> magic >> width >> height >> most;
  file.get();  // the one white space before the pixels
  if (!file || magic != "P6" || most != 255) throw std::runtime_error("not a binary PPM of 8 bits without comments");
  at::Tensor image = at::empty({1, height, width, 3}, at::kByte);
  if (!file.read(static_cast<char*>(image.data_ptr()), image.numel())) throw std::runtime_error("the PPM ends early");
  return image;
}

int main(int count, char** words) try {
  if (count < 7) return std::fprintf(stderr, "usage: aoti_detect PACKAGE IMAGE HEIGHT WIDTH LIBRARY...\n"), 2;
  for (int i = 5; i < count; ++i)
    if (dlopen(words[i], RTLD_NOW) == nullptr) throw std::runtime_error(dlerror());
  c10::InferenceMode without_gradients;
  const at::Tensor image = read_ppm(words[2]);
  const at::Tensor sizes = at::tensor({float(image.size(1)), float(image.size(2))}).view({1, 2});
  const at::Tensor original = at::tensor({std::stof(words[3]), std::stof(words[4])}).view({1, 2});
  torch::inductor::AOTIModelPackageLoader package(words[1]);
  // images, sizes, scales (x before y), original_sizes; the result: boxes, scores, labels, counts, and masks if there are
  const auto found = package.run({image, sizes, (sizes / original).flip(1).contiguous(), original});
  const at::Tensor boxes = found[0].contiguous(), scores = found[1], labels = found[2];
  for (int64_t i = 0; i < found[3].item<int64_t>(); ++i) {
    const float* box = boxes.const_data_ptr<float>() + 4 * i;
    std::printf("%.3f %.3f %.3f %.3f  %.5f  %ld\n", box[0], box[1], box[2], box[3], scores[0][i].item<float>(),
                long(labels[0][i].item<int64_t>()));
  }
} catch (const std::exception& error) {
  return std::fprintf(stderr, "aoti_detect: %s\n", error.what()), 1;
}
