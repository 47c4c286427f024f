// Masks to run lengths, by both methods: more words than the block that looks for changes has threads, in columns that
// join and in columns that do not; more runs than there is room for; boxes over the whole image, of one pixel, without
// sides, with their corners exchanged, of no numbers, beside the image, and so large that the host pastes them.
#include "../../../csrc/cuda/paste_rle.h"
#include "noise.h"

#include <scheduler.h>

#include <cmath>

using namespace cascadezoo;

namespace {

void paste(
    PasteMethod method, const PasteSize& size, const std::vector<float>& masks, const std::vector<float>& boxes, int cap) {
  const auto detections = static_cast<int>(boxes.size() / 4);
  std::vector<unsigned> words(detections * paste_words(size));
  std::vector<int> ends(detections * cap), counts(detections);
  paste_rle_cuda(
      method, size, detections, masks.data(), boxes.data(), cap, words.data(), ends.data(), counts.data(), nullptr);
}

}  // namespace

int main() {
  constexpr int cells = 14;
  const PasteSize tall{cells, 2100, 8}, small{cells, 40, 7};
  const std::vector<float> some = noise(4 * cells * cells, 0, 1, 0), all(4 * cells * cells, 1.0f);
  const std::vector<float> far = {-1, 0, 9, 2100, -4000, 0, 4000, 3000}, over = {-100, -900, 90, 3000, 1, 100, 6, 180};
  const std::vector<float> beside = {3.5f, 5.5f, 3.5f, 5.5f, 1.5f, 4.5f, 5.5f, 30.5f, 200, 5, 300, 9, 1, -50, 5, -20};
  const std::vector<float> turned = {3, 4, 3, 30, 6, 20, 2, 5};
  const std::vector<float> endless = {NAN, 0, 6, 7, 0, NAN, 6, 7, 0, 0, INFINITY, 7, 0, 0, 6, INFINITY};
  cuda_emulated_error = 1;  // of the first launch: there is no second one
  for (const auto method : {PasteMethod::Bilinear, PasteMethod::IntegerBox}) {
    paste(method, tall, some, far, 1000);
    paste(method, tall, some, far, 16);
    paste(method, tall, all, over, 1000);
    for (const int cap : {1, 100}) paste(method, small, all, beside, cap);
    paste(method, small, all, turned, 100);
    paste(method, small, all, endless, 100);
  }
}
