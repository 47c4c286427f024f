// Images to a batch: two of different sizes, in blocks that reach beyond both, with rows that end within what a thread
// writes.
#include "../../../csrc/cuda/preprocess.h"
#include "noise.h"

int main() {
  std::vector<uint8_t> levels;
  for (float level : noise(9 * 14 * 3, 0, 255, 0)) levels.push_back(static_cast<uint8_t>(level));
  cascadezoo::PreprocessBatch batch{};
  batch.image[0] = {levels.data(), 9, 14, 6, 19, 9 / 6.0, 14 / 19.0};
  batch.image[1] = {levels.data(), 14, 9, 7, 9, 2, 1};
  batch.images = 2, batch.height = 10;
  for (float& number : batch.mean) number = 110;
  for (float& number : batch.std) number = 57;
  for (int width : {19, 20}) {
    batch.width = width;
    std::vector<float> pixels(2 * 10 * 3 * static_cast<size_t>(width) + 4);
    for (bool float32 : {false, true})
      cascadezoo::preprocess_cuda(cascadezoo::Kind::Float, float32, batch, pixels.data(), nullptr);
  }
}
