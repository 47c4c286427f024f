// The pixels around a tile to its points, for one instruction set (instruction_sets.h); to include after product.h.

namespace cascadezoo {
namespace {
namespace CZ_SET {

// B' d along one axis; of a short tile the points 0, 1, -1 and infinity, which weights of six points know by other factors
template <bool SHORT>
CZ_INLINE void to_points(const Vector* d, Vector* out) {
  const Vector four = Vector{} + 4;
  if constexpr (SHORT) {
    const Vector three = Vector{} + 3;
    out[0] = four * (d[0] - d[2]);
    out[1] = -three * (d[1] + d[2]);
    out[2] = three * (d[1] - d[2]);
    out[5] = d[3] - d[1];
  } else {
    const Vector five = Vector{} + 5;
    const Vector even = CZ_FMA(-four, d[2], d[4]), odd = CZ_FMA(-four, d[1], d[3]);
    const Vector near = d[4] - d[2], far = (d[3] - d[1]) + (d[3] - d[1]);
    out[0] = CZ_FMA(four, d[0], CZ_FMA(-five, d[2], d[4]));
    out[1] = even + odd;
    out[2] = even - odd;
    out[3] = near + far;
    out[4] = near - far;
    out[5] = CZ_FMA(four, d[1], CZ_FMA(-five, d[3], d[5]));
  }
}

constexpr bool absent(bool is_short, int point) { return is_short && (point == 3 || point == 4); }

// The pixels around a tile, all channels, to its points: kLine of them in a row, the next ones `next` floats on
template <bool LOW, bool NARROW>
CZ_TARGET inline void transform_input(
    const Convolution& p, const float* zeros, const Tile& tile, float* to, int64_t step, int64_t next) {
  constexpr int rows = LOW ? 4 : 6, columns = NARROW ? 4 : 6;
  const float* pixels[36];
  for (int i = 0; i < rows; ++i)
    for (int j = 0; j < columns; ++j) {
      const int64_t y = tile.y - 1 + i, x = tile.x - 1 + j;
      const bool inside = y >= 0 && x >= 0 && y < p.h && x < p.w;
      pixels[6 * i + j] = inside ? p.x + ((tile.image * p.h + y) * p.w + x) * p.in : zeros;
    }
  for (int64_t c = 0; c < p.in; c += CZ_LANES) {
    Vector half[36];
    for (int j = 0; j < columns; ++j) {
      Vector d[6], points[6];
      for (int i = 0; i < rows; ++i) d[i] = load(pixels[6 * i + j] + c);
      to_points<LOW>(d, points);
      for (int i = 0; i < 6; ++i)
        if (!absent(LOW, i)) half[6 * i + j] = points[i];
    }
    float* const at = to + c / kLine * next + c % kLine;
    for (int i = 0; i < 6; ++i) {
      if (absent(LOW, i)) continue;
      Vector points[6];
      to_points<NARROW>(half + 6 * i, points);
      for (int j = 0; j < 6; ++j)
        if (!absent(NARROW, j)) store(at + (6 * i + j) * step, points[j]);
    }
  }
}

}  // namespace CZ_SET
}  // namespace
}  // namespace cascadezoo
