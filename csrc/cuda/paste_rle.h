// What paste_rle.cu offers to its binding.
#pragma once

#include "../paste_rle.h"

namespace cascadezoo {

enum class PasteMethod : int { Bilinear, IntegerBox };

// words of scratch memory that one detection needs: a bit a pixel, each column in words of its own
CZ_HD int64_t paste_words(const PasteSize& size) {
  return static_cast<int64_t>(size.width) * (size.height / 32 + (size.height % 32 != 0));
}

// ``masks`` (detections, cells, cells), ``boxes`` (detections, 4), ``words`` (detections, paste_words), ``ends``
// (detections, cap): where the runs end, counted down the columns of the image, then zeros; ``counts`` (detections): how
// many they are, or -1 and no ends: the host pastes this one.  At most 65535 detections and 2^31 - 1 pixels.  Returns
// what went wrong, or nullptr.
const char* paste_rle_cuda(
    PasteMethod method, const PasteSize& size, int detections, const float* masks, const float* boxes, int cap,
    unsigned* words, int* ends, int* counts, void* stream);

}  // namespace cascadezoo
