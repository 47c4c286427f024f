// What preprocess.cu offers to its binding.
#pragma once

#include <cstdint>

#include "kind.h"

namespace cascadezoo {

constexpr int kMostImages = 64;  // of a launch: they are its argument, which has to fit into 4 KB

// Images as given, and how they become one batch
struct PreprocessBatch {
  struct Image {
    const uint8_t* levels;  // (height, width, 3), less than 2^31
    int height, width;
    int rows, columns;      // of the resized image
    double step_y, step_x;  // rows and columns of the image as given between two of the resized one
  };

  Image image[kMostImages];
  int images;
  int height, width;  // of the batch: at least as many as any image's rows and columns
  float mean[3], std[3];
};

// ``pixels`` (images, height, width, 3), aligned to 32 bytes; zeros right of and below an image.  ``float32``: levels of
// the resized image are not rounded.  Returns what went wrong, or nullptr.
const char* preprocess_cuda(Kind kind, bool float32, const PreprocessBatch& batch, void* pixels, void* stream);

}  // namespace cascadezoo
