// Convolutions by plain loops, for any dtype and size: few channels, groups of few channels, float64, and what else the
// tiles of conv_tiles.cu do not take. The roles of pixels and taps are those of conv.cuh.
#include "conv.cuh"
#include "rows.cuh"

// A thread computes a pixel in EACH rows, which share what it reads of the source.
template <class T, int EACH>
__global__ void __launch_bounds__(256, 2) conv_gather(const Conv args) {
  const Window window(args, blockIdx.z);
  const i64 number = thread_number<i64>();
  if (number >= args.images * window.pixels()) return;
  const InImage at(number, window.pixels());
  const Digits place = digits(at.number, 1, i32(window.across.pixels));
  const Spot<i64> pixel = pixel_at(args, window, at.image, place.outer, place.inner);
  const i64 source_step = window.across.tap_step * window.across.stride, weight_step = window.across.weight_stride;
  const i64 per_group = (args.rows + EACH - 1) / EACH;
  for (i64 unit = blockIdx.y; unit < args.groups * per_group; unit += gridDim.y) {
    const i64 group = unit / per_group, first = (unit - group * per_group) * EACH;
    const T* in_source = source_of<T>(args, group) + pixel.source;
    const T* in_weight = weight_of<T>(args, group) + first * args.weight_row;
    const i32 left = i32(args.rows - first), row = i32(args.weight_row);
    Compute<T> sum[EACH] = {};
    for (i32 c = 0; c < i32(args.channels); ++c) {
      for (i32 r = 0; r < i32(window.down.taps); ++r) {
        const Spot<i32> line = tap_at(args, window, c, r, 0);
        if (u32(pixel.y + line.y) >= u32(window.down.size)) continue;
        const T *place = in_source + line.source, *own = in_weight + line.own;
        i32 x = pixel.x + line.x;
        for (i32 s = 0; s < i32(window.across.taps); ++s) {
          if (u32(x) < u32(window.across.size)) {
            const Compute<T> value = widen(*place);
#pragma unroll
            for (int k = 0; k < EACH; ++k) {
              if (k < left) sum[k] += value * widen(own[k * row]);
            }
          }
          place += source_step;
          own += weight_step;
          x += i32(window.across.tap_step);
        }
      }
    }
    T* map = map_of<T>(args, group) + pixel.own;
#pragma unroll
    for (int k = 0; k < EACH; ++k) {
      if (first + k >= args.rows) continue;
      map[(first + k) * args.map_row] = narrow<T>(sum[k] + bias_of<T>(args, group * args.rows + first + k));
    }
  }
}

// A block sums over a split of the map's lines, for EACH taps of one row, which share what it reads of the map. Its
// warps take lines in turns, its lanes the pixels of a line.
template <class T, int EACH>
__global__ void __launch_bounds__(256, 2) conv_weight(const Conv args) {
  const Window window(args, 0);
  const i64 taps = args.channels * window.taps(), chunks = (taps + EACH - 1) / EACH;
  const i64 row = i64(blockIdx.x) / chunks, first = (i64(blockIdx.x) - row * chunks) * EACH;
  const i64 group = row / args.rows, row_of_group = row - group * args.rows;
  const T* source = source_of<T>(args, group);
  const T* map = map_of<T>(args, group) + row_of_group * args.map_row;
  Spot<i32> tap[EACH];
#pragma unroll
  for (int k = 0; k < EACH; ++k) {
    const auto [c, r, s] = digits(i32(min(first + k, taps - 1)), i32(window.down.taps), i32(window.across.taps));
    tap[k] = tap_at(args, window, c, r, s);
  }

  Compute<T> sum[EACH] = {};
  const Axis &down = window.down, &across = window.across;
  const i64 source_step = WARP * across.pixel_step * across.stride, map_step = WARP * across.map_stride;
  const i64 begin = args.share * blockIdx.y, end = min(args.images * down.pixels, begin + args.share);
  for (i64 line = begin + threadIdx.x / WARP; line < end; line += blockDim.x / WARP) {
    const InImage at(line, down.pixels);
    const i32 lane = threadIdx.x % WARP;
    const Spot<i64> pixel = pixel_at(args, window, at.image, at.number, lane);
    const T *in_source = source + pixel.source, *in_map = map + pixel.own;
    bool is_seen[EACH];
#pragma unroll
    for (int k = 0; k < EACH; ++k) is_seen[k] = u32(pixel.y + tap[k].y) < u32(down.size);
    i32 x = pixel.x;
    for (i32 j = lane; j < i32(across.pixels); j += WARP) {
      const Compute<T> slope = widen(*in_map);
#pragma unroll
      for (int k = 0; k < EACH; ++k) {
        if (is_seen[k] && u32(x + tap[k].x) < u32(across.size)) sum[k] += slope * widen(in_source[tap[k].source]);
      }
      in_source += source_step;
      in_map += map_step;
      x += WARP * i32(across.pixel_step);
    }
  }
#pragma unroll
  for (int k = 0; k < EACH; ++k) {
    const Compute<T> total = fold_block<formulas::add>(sum[k]);
    if (threadIdx.x == 0 && first + k < taps) {
      T* place = weight_of<T>(args, group) + row_of_group * args.weight_row + tap[k].own;
      store_weight(args, row, first + k, taps, place, blockIdx.y, total);
    }
  }
}

// weight = Σ over the splits, in their order. A thread has one element.
template <class T>
__global__ void add_splits(const Conv args) {
  const Window window(args, 0);
  const i64 taps = args.channels * window.taps(), count = args.groups * args.rows * taps;
  const i64 number = thread_number<i64>();
  if (number >= count) return;
  const Compute<T>* partial = static_cast<const Compute<T>*>(args.partial) + number;
  Compute<T> sum = 0;
  for (i64 split = 0; split < args.splits; ++split) sum += partial[split * count];
  const i64 row = number / taps, group = row / args.rows;
  const auto [c, r, s] = digits(i32(number - row * taps), i32(window.down.taps), i32(window.across.taps));
  T* weight = weight_of<T>(args, group) + (row - group * args.rows) * args.weight_row;
  weight[tap_at(args, window, c, r, s).own] = narrow<T>(sum);
}
