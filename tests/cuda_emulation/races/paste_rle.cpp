// Masks to run lengths: more words than the block that looks for changes has threads, in columns that join; then more
// runs than there is room for, and a box that the host pastes.
#include "../../../csrc/cuda/paste_rle.h"
#include "noise.h"

int main() {
  using cascadezoo::PasteMethod;
  constexpr int detections = 2;
  const cascadezoo::PasteSize size{14, 2100, 8};
  const std::vector<float> masks = noise(detections * 14 * 14, 0, 1, 0);
  const std::vector<float> boxes = {-1, -3, 9, 2103, 1, 100, 6, 180}, far = {-1, 0, 9, 2100, -4000, 0, 4000, 3000};
  std::vector<unsigned> words(detections * cascadezoo::paste_words(size));
  std::vector<int> ends(detections * 1000), counts(detections);
  cascadezoo::paste_rle_cuda(
      PasteMethod::Bilinear, size, detections, masks.data(), boxes.data(), 1000, words.data(), ends.data(),
      counts.data(), nullptr);
  cascadezoo::paste_rle_cuda(
      PasteMethod::IntegerBox, size, detections, masks.data(), far.data(), 16, words.data(), ends.data(),
      counts.data(), nullptr);
}
