// Numbers for a kernel's race check: the same in every run.
#pragma once

#include <cstddef>
#include <random>
#include <vector>

inline std::vector<float> noise(size_t count, float low, float high, unsigned seed) {
  std::mt19937 numbers(seed);
  std::uniform_real_distribution<float> between(low, high);
  std::vector<float> made(count);
  for (float& value : made) value = between(numbers);
  return made;
}
