// Kernels with one mistake each, and the same without: what the emulator and the sanitizers must find.  The program's
// argument names the case; a case that runs to its end prints whether its result is right.
#include "../../csrc/cuda/launch.h"

#include <cstdio>
#include <functional>
#include <map>
#include <string>
#include <vector>

namespace {

constexpr int kThreads = 128, kItems = 1000;

enum class Mistake { None, Barrier, WarpBarrier, Global, Shared, StaticShared };

// the sum of a[i] + b[i] into *total, and each into c[i]; every block by itself, by way of both kinds of shared memory
template <Mistake M>
__global__ void sum(const float* a, const float* b, float* c, float* total, int items) {
  CZ_DYNAMIC_SHARED(raw);
  float* turned = reinterpret_cast<float*>(raw);
  __shared__ float of_warp[kThreads / 32];
  const int t = static_cast<int>(threadIdx.x), i = static_cast<int>(blockIdx.x) * kThreads + t;
  const float mine = i < items ? a[i] + b[i] : 0;
  if (i < items + (M == Mistake::Global)) c[i] = mine;
  turned[t + (M == Mistake::Shared)] = mine;
  if (M != Mistake::Barrier) __syncthreads();
  float sum = turned[kThreads - 1 - t];
  for (int step = 16; step > 0; step /= 2) sum += __shfl_down_sync(~0u, sum, step);
  if (t % 32 == 0) of_warp[t / 32 + (M == Mistake::StaticShared)] = sum;
  __syncthreads();
  turned[t] = 0;
  if (M != Mistake::WarpBarrier) __syncwarp();
  if (t % 32 == 0) turned[t + 1] = of_warp[t / 32];
  __syncwarp();
  sum = turned[t];
  for (int step = 1; step < 32; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (__any_sync(~0u, sum != sum)) sum = 0;
  if (t % 32 == 0) atomicAdd(total, sum);
}

template <Mistake M>
bool right() {
  std::vector<float> a(kItems), b(kItems), c(kItems);
  float expected = 0, total = 0;
  for (int i = 0; i < kItems; ++i) a[i] = static_cast<float>(i % 7), b[i] = static_cast<float>(i % 5);
  for (int i = 0; i < kItems; ++i) expected += a[i] + b[i];
  const float *from_a = a.data(), *from_b = b.data();
  float *to_c = c.data(), *to_total = &total;
  const dim3 blocks((kItems + kThreads - 1) / kThreads);
  CZ_LAUNCH(sum<M>, blocks, dim3(kThreads), kThreads * sizeof(float), nullptr, from_a, from_b, to_c, to_total, kItems);
  bool equal = total == expected;
  for (int i = 0; i < kItems; ++i) equal &= c[i] == a[i] + b[i];
  return equal;
}

__global__ void divergent_barrier(int*) {
  if (threadIdx.x < 64)
    __syncthreads();
  else
    __syncthreads();
}

__global__ void barrier_after_return(int*) {
  if (threadIdx.x >= 64) return;
  __syncthreads();
}

__global__ void missing_lane(int* out) {
  if (threadIdx.x < 16) out[threadIdx.x] = __shfl_down_sync(~0u, static_cast<int>(threadIdx.x), 1);
  __syncthreads();
}

__global__ void lane_without_itself(int* out) { *out = __shfl_sync(0xffffu, static_cast<int>(threadIdx.x), 0); }

__global__ void lane_not_in_mask(int* out) {
  if (threadIdx.x < 16) *out = __shfl_down_sync(0xffffu, static_cast<int>(threadIdx.x), 16);
}

__global__ void two_operations(int* out) {
  if (threadIdx.x % 2 == 0)
    *out = static_cast<int>(__ballot_sync(~0u, 1));
  else
    *out = __shfl_sync(~0u, 1, 0);
}

// halves of a warp by themselves, and what a whole warp says
__global__ void masks(int* out) {
  const unsigned lane = threadIdx.x % 32, own = lane < 16 ? 0xffffu : 0xffff0000u;
  int v = __shfl_sync(own, static_cast<int>(lane), lane < 16 ? 3 : 20);                    // 3, 20
  v += static_cast<int>(__popc(__ballot_sync(own, lane % 4 == 0)));                        // + 4
  v += __shfl_up_sync(~0u, static_cast<int>(lane), 2) - static_cast<int>(lane);            // - 2, from lane 2 on
  if (!__all_sync(~0u, lane < 32)) v = 0;
  out[threadIdx.x] = v;
}

bool masks_are_right() {
  std::vector<int> out(64);
  int* to = out.data();
  CZ_LAUNCH(masks, dim3(1), dim3(64), 0, nullptr, to);
  bool equal = true;
  for (int t = 0; t < 64; ++t) equal &= out[t] == (t % 32 < 16 ? 7 : 24) - (t % 32 < 2 ? 0 : 2);
  return equal;
}

// halves as cuda_fp16.h has them: each is itself again, and floats between two go to the nearer, or to the even one
bool halves_are_right() {
  for (unsigned bits = 0; bits < 0x10000; ++bits) {
    __half half;
    half.bits = static_cast<uint16_t>(bits);
    const float value = half;
    if (value == value ? __half(value).bits != bits : __half(value) == __half(value)) return false;
  }
  const float cases[][2] = {
      {65504, 65504},         {65519, 65504},    {65520, INFINITY},       {-1e9f, -INFINITY},
      {2049, 2048},           {2051, 2052},      {0x1p-24f, 0x1p-24f},    {0x1p-25f, 0},
      {0x1.8p-24f, 0x1p-23f}, {0x1p-15f, 0x1p-15f}, {0x1.ff8p-15f, 0x1.ff8p-15f}, {0x1.ffcp-15f, 0x1p-14f}};
  for (const auto& [from, to] : cases)
    if (static_cast<float>(__half(from)) != to) return false;
  const auto rounded = [](float value) { return static_cast<float>(__nv_bfloat16(value)); };
  return rounded(0x1.01p0f) == 1 && rounded(0x1.03p0f) == 0x1.04p0f && rounded(3.4e38f) == INFINITY &&
         rounded(-2.5f) == -2.5f;
}

__global__ void nothing(int*) {}

__global__ void between_barriers(int* out) {
  __shared__ int turned[kThreads];
  const int t = static_cast<int>(threadIdx.x);
  __syncthreads();
  turned[t] = t;
  out[t] = turned[kThreads - 1 - t];  // too early
  __syncthreads();
}

bool turned_between_barriers() {
  std::vector<int> out(kThreads);
  int* to = out.data();
  CZ_LAUNCH(between_barriers, dim3(1), dim3(kThreads), 0, nullptr, to);
  for (int t = 0; t < kThreads; ++t)
    if (out[t] != kThreads - 1 - t) return false;
  return true;
}

__global__ void indices(unsigned* seen) {
  const unsigned in_block = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  atomicAdd(seen + block * blockDim.x * blockDim.y * blockDim.z + in_block, 1u);
}

bool each_index_once() {
  std::vector<unsigned> seen(2 * 3 * 4 * 5 * 3 * 2);
  unsigned* to = seen.data();
  CZ_LAUNCH(indices, dim3(2, 3, 4), dim3(5, 3, 2), 0, nullptr, to);
  for (unsigned count : seen)
    if (count != 1) return false;
  return true;
}

// which block came last: it differs with the seed
__global__ void last_block(int* last) {
  *last = static_cast<int>(blockIdx.x);
}

bool print_last_block() {
  int last = -1;
  int* to = &last;
  CZ_LAUNCH(last_block, dim3(1000), dim3(1), 0, nullptr, to);
  std::printf("last %d\n", last);
  return true;
}

bool launch(void (*kernel)(int*), dim3 grid, dim3 block, size_t shared = 0) {
  int out[kThreads];
  int* to = out;
  CZ_LAUNCH(*kernel, grid, block, shared, nullptr, to);
  return true;
}

bool much_shared() {
  cudaFuncSetAttribute(nothing, cudaFuncAttributeMaxDynamicSharedMemorySize, 100 << 10);
  return launch(nothing, 1, 32, 100 << 10);
}

const std::map<std::string, std::function<bool()>> kCases = {
    {"right", right<Mistake::None>},
    {"masks", masks_are_right},
    {"indices", each_index_once},
    {"halves", halves_are_right},
    {"last block", print_last_block},
    {"much shared memory", much_shared},
    {"missing barrier", right<Mistake::Barrier>},
    {"missing warp barrier", right<Mistake::WarpBarrier>},
    {"missing barrier between others", turned_between_barriers},
    {"global overrun", right<Mistake::Global>},
    {"shared overrun", right<Mistake::Shared>},
    {"static shared overrun", right<Mistake::StaticShared>},
    {"divergent barrier", [] { return launch(divergent_barrier, 1, 128); }},
    {"barrier after return", [] { return launch(barrier_after_return, 1, 128); }},
    {"missing lane", [] { return launch(missing_lane, 1, 32); }},
    {"lane without itself", [] { return launch(lane_without_itself, 1, 32); }},
    {"lane not in mask", [] { return launch(lane_not_in_mask, 1, 32); }},
    {"lane that is not there", [] { return launch(missing_lane, 1, 20); }},
    {"two operations", [] { return launch(two_operations, 1, 32); }},
    {"too many threads", [] { return launch(nothing, 1, dim3(32, 33)); }},
    {"too many rows", [] { return launch(nothing, dim3(1, 65536), 32); }},
    {"no block", [] { return launch(nothing, 0, 32); }},
    {"too much shared memory", [] { return launch(nothing, 1, 32, (227 << 10) + 1); }},
    {"shared memory not asked for", [] { return launch(nothing, 1, 32, (48 << 10) + 1); }},
};

}  // namespace

int main(int, char** arguments) {
  const bool right = kCases.at(arguments[1])();
  std::printf("%s\n", right ? "right" : "wrong");
  return right ? 0 : 1;
}
