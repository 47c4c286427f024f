// Tiles of a convolution by Winograd's way: those of one side, and shorter ones where an image ends.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace cascadezoo {
namespace {

// `count` stretches of `side` pixels from `first` on, along one axis
struct Stretches {
  int64_t first, side, count;
};

struct Tile {
  int64_t image, y, x;
};

// tiles of equal sides
struct Kind {
  int64_t images;
  Stretches rows, columns;

  int64_t tiles() const { return images * rows.count * columns.count; }
  int64_t points() const { return (rows.side + 2) * (columns.side + 2); }
  Tile tile(int64_t t) const {
    return {
        t / columns.count / rows.count, rows.first + t / columns.count % rows.count * rows.side,
        columns.first + t % columns.count * columns.side};
  }
};

struct Block {
  Kind kind;
  int64_t first, count;
};

// Blocks of at most tiles_of(kind) tiles, of all kinds evenly mixed, so that each thread gets as many that take long
template <class TilesOf>
std::vector<Block> blocks_of(
    int64_t images, const std::array<Stretches, 2>& rows, const std::array<Stretches, 2>& columns, TilesOf tiles_of) {
  std::vector<std::pair<double, Block>> placed;
  for (const Stretches& of_rows : rows)
    for (const Stretches& of_columns : columns) {
      const Kind kind{images, of_rows, of_columns};
      const int64_t tiles = kind.tiles(), most = tiles_of(kind);
      for (int64_t first = 0; first < tiles; first += most)
        placed.push_back({static_cast<double>(first) / tiles, {kind, first, std::min(most, tiles - first)}});
    }
  std::stable_sort(placed.begin(), placed.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Block> blocks;
  for (const auto& each : placed) blocks.push_back(each.second);
  return blocks;
}

}  // namespace
}  // namespace cascadezoo
