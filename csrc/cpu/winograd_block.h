// Some tiles of a convolution by Winograd's F(4 x 4, 3 x 3).  winograd.cpp includes this once for each instruction set,
// with these set:
//   CZ_SET     a name for it, the namespace of what is defined here
//   CZ_TARGET  the attribute that lets a function use it
//   CZ_LANES   floats of one vector: 4, 8 or 16
//   CZ_FMA     (a, b, c) -> a * b + c of vectors
//   CZ_ROWS    tiles that the product keeps in registers, two vectors of sums each
//   CZ_TILES   tiles of a block, a multiple of it: what was quickest, since a block of 256 channels fits a core's cache
//   CZ_SUMS    input channels whose sums over tiles a weight's gradient keeps in registers, two vectors each
#define CZ_INLINE CZ_TARGET __attribute__((always_inline)) inline

namespace CZ_SET {

typedef float Vector __attribute__((vector_size(4 * CZ_LANES)));
typedef float InMemory __attribute__((vector_size(4 * CZ_LANES), aligned(4), may_alias));

CZ_INLINE Vector load(const float* from) { return *reinterpret_cast<const InMemory*>(from); }
CZ_INLINE void store(float* to, Vector value) { *reinterpret_cast<InMemory*>(to) = value; }

// B' d along one axis
CZ_INLINE void to_points(const Vector* d, Vector* out, int step) {
  const Vector four = Vector{} + 4, five = Vector{} + 5;
  const Vector d1 = d[step], d2 = d[2 * step], d3 = d[3 * step], d4 = d[4 * step];
  const Vector even = CZ_FMA(-four, d2, d4), odd = CZ_FMA(-four, d1, d3);
  const Vector near = d4 - d2, far = (d3 - d1) + (d3 - d1);
  out[0] = CZ_FMA(four, d[0], CZ_FMA(-five, d2, d4));
  out[step] = even + odd;
  out[2 * step] = even - odd;
  out[3 * step] = near + far;
  out[4 * step] = near - far;
  out[5 * step] = CZ_FMA(four, d1, CZ_FMA(-five, d3, d[5 * step]));
}

// A' m along one axis
CZ_INLINE void from_points(const Vector* m, Vector* out, int step, int out_step) {
  const Vector two = Vector{} + 2, four = Vector{} + 4, eight = Vector{} + 8;
  const Vector sum = m[step] + m[2 * step], difference = m[step] - m[2 * step];
  const Vector far_sum = m[3 * step] + m[4 * step], far_difference = m[3 * step] - m[4 * step];
  out[0] = m[0] + (sum + far_sum);
  out[out_step] = CZ_FMA(two, far_difference, difference);
  out[2 * out_step] = CZ_FMA(four, far_sum, sum);
  out[3 * out_step] = CZ_FMA(eight, far_difference, difference) + m[5 * step];
}

// A d along one axis: the gradient of a result of from_points, at its points
CZ_INLINE void gradient_to_points(const Vector* d, Vector* out, int step, int out_step) {
  const Vector four = Vector{} + 4, eight = Vector{} + 8;
  const Vector even = d[0] + d[2 * step], odd = d[step] + d[3 * step];
  const Vector far_even = CZ_FMA(four, d[2 * step], d[0]), far_odd = CZ_FMA(eight, d[3 * step], d[step] + d[step]);
  out[0] = d[0];
  out[out_step] = even + odd;
  out[2 * out_step] = even - odd;
  out[3 * out_step] = far_even + far_odd;
  out[4 * out_step] = far_even - far_odd;
  out[5 * out_step] = d[3 * step];
}

// The 6 x 6 pixels around tile t, all channels, to 36 points: kLine of them in a row, the next ones `next` floats on
CZ_TARGET inline void transform_input(
    const Convolution& p, const float* zeros, int64_t t, float* to, int64_t step, int64_t next) {
  const Tile tile = p.tile(t);
  const float* pixels[36];
  for (int i = 0; i < 36; ++i) {
    const int64_t y = tile.y - 1 + i / 6, x = tile.x - 1 + i % 6;
    const bool inside = y >= 0 && x >= 0 && y < p.h && x < p.w;
    pixels[i] = inside ? p.x + ((tile.image * p.h + y) * p.w + x) * p.in : zeros;
  }
  for (int64_t c = 0; c < p.in; c += CZ_LANES) {
    Vector d[36], points[36];
    for (int i = 0; i < 36; ++i) d[i] = load(pixels[i] + c);
    for (int i = 0; i < 6; ++i) to_points(d + i, points + i, 6);
    for (int i = 0; i < 6; ++i) to_points(points + 6 * i, d + 6 * i, 1);
    for (int i = 0; i < 36; ++i) store(to + i * step + c / kLine * next + c % kLine, d[i]);
  }
}

// CZ_ROWS tiles, as transform_input leaves them, times weights (p.in, kChunk), of which it takes two vectors' width
CZ_TARGET inline void multiply(int64_t in, const float* v, int64_t next, const float* weight, float* to) {
  Vector sums[CZ_ROWS][2] = {};
  for (int64_t first = 0; first < in; first += kLine, v += next)
    for (int c = 0; c < kLine; ++c, weight += kChunk) {
      const Vector left = load(weight), right = load(weight + CZ_LANES);
      for (int row = 0; row < CZ_ROWS; ++row) {
        const Vector value = Vector{} + v[row * kLine + c];
        sums[row][0] = CZ_FMA(value, left, sums[row][0]);
        sums[row][1] = CZ_FMA(value, right, sums[row][1]);
      }
    }
  for (int row = 0; row < CZ_ROWS; ++row)
    for (int half : {0, 1}) store(to + row * kChunk + half * CZ_LANES, sums[row][half]);
}

// 36 points of tile t, kChunk channels from k on, to its 4 x 4 pixels
CZ_TARGET inline void transform_output(const Convolution& p, int64_t t, int64_t k, const float* from, int64_t step) {
  const Tile tile = p.tile(t);
  for (int c = 0; c < kChunk; c += CZ_LANES) {
    Vector points[36], half[24], pixels[16];
    for (int i = 0; i < 36; ++i) points[i] = load(from + i * step + c);
    for (int i = 0; i < 6; ++i) from_points(points + i, half + i, 6, 6);
    for (int i = 0; i < 4; ++i) from_points(half + 6 * i, pixels + 4 * i, 1, 1);
    const Vector bias = load(p.bias + k + c);
    for (int64_t i = 0; i < kSide && tile.y + i < p.h; ++i)
      for (int64_t j = 0; j < kSide && tile.x + j < p.w; ++j) {
        Vector value = pixels[kSide * i + j] + bias;
        if (p.relu) value = value < 0 ? Vector{} : value;  // what is no number stays so
        store(p.y + ((tile.image * p.h + tile.y + i) * p.w + tile.x + j) * p.out + k + c, value);
      }
  }
}

// Tiles first .. first + count of a convolution, count <= CZ_TILES.  Room: room_of(CZ_TILES, p.in) floats.
CZ_TARGET inline void run_block(const Convolution& p, const float* zeros, int64_t first, int64_t count, float* room) {
  const int64_t rows = (count + CZ_ROWS - 1) / CZ_ROWS * CZ_ROWS, step = rows * p.in + kApart;
  float* const products = room + 36 * step;
  for (int64_t t = 0; t < rows; ++t)  // beyond the last tile: any one again, whose result nobody reads
    transform_input(p, zeros, first + (t < count ? t : 0), room + t * kLine, step, rows * kLine);
  for (int64_t k = 0; k < p.out; k += kChunk) {
    for (int64_t point = 0; point < 36; ++point) {
      const float* weight = p.weight + (k * 36 + point * kChunk) * p.in;
      for (int64_t t = 0; t < rows; t += CZ_ROWS)
        for (int c = 0; c < kChunk; c += 2 * CZ_LANES)
          multiply(
              p.in, room + point * step + t * kLine, rows * kLine, weight + c, products + (point * rows + t) * kChunk + c);
    }
    for (int64_t t = 0; t < count; ++t) transform_output(p, first + t, k, products + t * kChunk, rows * kChunk);
  }
}

// The 4 x 4 pixels of tile t of p.y's gradient, channels begin .. end, to 36 points, laid out as transform_input does
CZ_TARGET inline void transform_gradient(
    const Convolution& p, const float* zeros, int64_t t, int64_t begin, int64_t end, float* to, int64_t step,
    int64_t next) {
  const Tile tile = p.tile(t);
  const float* pixels[16];
  for (int i = 0; i < 16; ++i) {
    const int64_t y = tile.y + i / 4, x = tile.x + i % 4;
    pixels[i] = y < p.h && x < p.w ? p.y + ((tile.image * p.h + y) * p.w + x) * p.out : zeros;
  }
  for (int64_t c = begin; c < end; c += CZ_LANES) {
    Vector d[16], half[24], points[36];
    for (int i = 0; i < 16; ++i) d[i] = load(pixels[i] + c);
    for (int i = 0; i < 4; ++i) gradient_to_points(d + i, half + i, 4, 4);
    for (int i = 0; i < 6; ++i) gradient_to_points(half + 4 * i, points + 6 * i, 1, 1);
    for (int i = 0; i < 36; ++i) store(to + i * step + (c - begin) / kLine * next + (c - begin) % kLine, points[i]);
  }
}

// sums (CZ_SUMS, kChunk), of which it takes two vectors' width, += inputs' x gradients of one point, over tiles
CZ_TARGET inline void add_products(int64_t tiles, const float* v, const float* left, const float* right, float* sums) {
  Vector sum[CZ_SUMS][2];
  for (int row = 0; row < CZ_SUMS; ++row)
    for (int half : {0, 1}) sum[row][half] = load(sums + row * kChunk + half * CZ_LANES);
  for (int64_t t = 0; t < tiles; ++t) {
    const Vector l = load(left + t * kLine), r = load(right + t * kLine);
    for (int row = 0; row < CZ_SUMS; ++row) {
      const Vector value = Vector{} + v[t * kLine + row];
      sum[row][0] = CZ_FMA(value, l, sum[row][0]);
      sum[row][1] = CZ_FMA(value, r, sum[row][1]);
    }
  }
  for (int row = 0; row < CZ_SUMS; ++row)
    for (int half : {0, 1}) store(sums + row * kChunk + half * CZ_LANES, sum[row][half]);
}

// The gradient at the points, to (p.out / kChunk, 36, p.in, kChunk), of output channels begin .. end, from p.x and p.y,
// which holds the output's gradient.  Room: room_of_gradient(p.in, end - begin) floats.
CZ_TARGET inline void run_gradient(
    const Convolution& p, const float* zeros, int64_t begin, int64_t end, float* room, float* to) {
  const int64_t next = (kSummed + 1) * kLine;  // one line more, or all would fall into the same lines of a cache
  const int64_t step = p.in / kLine * next + kApart, step_out = (end - begin) / kLine * next + kApart;
  float* const gradients = room + 36 * step;
  for (int64_t first = 0; first < p.tiles(); first += kSummed) {
    const int64_t count = std::min(kSummed, p.tiles() - first);
    for (int64_t t = 0; t < count; ++t) {
      transform_input(p, zeros, first + t, room + t * kLine, step, next);
      transform_gradient(p, zeros, first + t, begin, end, gradients + t * kLine, step_out, next);
    }
    for (int64_t point = 0; point < 36; ++point)
      for (int64_t k = begin; k < end; k += kChunk)
        for (int64_t c = 0; c < p.in; c += CZ_SUMS)
          for (int i = 0; i < kChunk; i += 2 * CZ_LANES) {
            const float* own = gradients + point * step_out + (k - begin) / kLine * next;
            const int j = i + CZ_LANES;
            add_products(
                count, room + point * step + c / kLine * next + c % kLine, own + i / kLine * next + i % kLine,
                own + j / kLine * next + j % kLine, to + ((k / kChunk * 36 + point) * p.in + c) * kChunk + i);
          }
  }
}

}  // namespace CZ_SET

#undef CZ_INLINE
#undef CZ_SET
#undef CZ_TARGET
#undef CZ_LANES
#undef CZ_FMA
#undef CZ_ROWS
#undef CZ_TILES
#undef CZ_SUMS
