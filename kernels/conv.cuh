// Convolutions as sums over pixels and taps.
//
// A pixel (n, i, j) is a place in the "map", a tap (c, r, s) an input channel and a place in the kernel, and the two
// together are a place in the "source", which is zero beyond its edges. Channels of the map are called rows. With
//
//   y = down.start + i·down.pixel_step + r·down.tap_step, and x likewise across,
//
// one of two sums is computed within each group of channels:
//
//   gather   map[n, row, i, j] = bias[row] + Σ over taps of weight[row, c, r, s] · source[n, c, y, x]
//   weight   weight[row, c, r, s] = Σ over pixels of map[n, row, i, j] · source[n, c, y, x]
//
// conv2d is a gather. conv2d_input_grad is one too, with the gradient for a source: pixels whose distance is the stride
// meet the same taps, so each residue of the stride is a "phase" with an Axis of its own, and no product is in vain.
// conv2d_weight_grad is the sum over pixels, in splits whose sums lie in `partial` until `add_splits`.
//
// Where pixel and tap lie splits into a part of each (`Spot`); what they add up to is looked up in the source.
#pragma once
#include "common.cuh"

constexpr int PHASES = 4;  // of one dimension in a launch

// One of the two spatial dimensions in a phase. Offsets are in elements.
struct Axis {
  i64 size, stride;  // of the source
  i64 pixels, taps;
  i64 start, pixel_step, tap_step;  // coordinates in the source
  i64 map_start, map_stride;        // of pixel 0, and from one pixel to the next
  i64 weight_start, weight_stride;  // of tap 0, and from one tap to the next
};

// Packed by tensorlite/backends/kernels/conv.py.
struct Conv {
  void* map;
  void* weight;
  const void* source;
  const void* bias;  // by row, or null
  void* partial;     // of the weight: (splits, groups, rows, taps)
  i64 images, groups, rows, channels;  // rows and channels of a group
  i64 source_image, source_channel;    // strides in elements
  i64 map_image, map_row;
  i64 weight_group, weight_row, weight_channel;
  i64 bias_row;
  i64 splits, share;  // of the sum over pixels: how many, and the length of each but the last
  i64 phases_across;
  Axis down[PHASES], across[PHASES];
};

// The two dimensions in a block's phase.
struct Window {
  const Axis &down, &across;

  FN Window(const Conv& args, u32 phase)
      : down(args.down[phase / u32(args.phases_across)]), across(args.across[phase % u32(args.phases_across)]) {}
  FN i64 pixels() const { return down.pixels * across.pixels; }
  FN i64 taps() const { return down.taps * across.taps; }
};

// What a pixel or a tap adds to a place in the source, and where it lies in its own array, the map or the weight. Index
// counts the elements of a whole array, i32 those of one image.
template <class Index>
struct alignas(16) Spot {
  Index source, own;
  i32 y, x;
};

template <class Index>
FN Spot<Index> pixel_at(const Conv& args, const Window& window, Index n, i32 i, i32 j) {
  const Axis &down = window.down, &across = window.across;
  const i32 y = i * i32(down.pixel_step), x = j * i32(across.pixel_step);
  const i32 in_source = y * i32(down.stride) + x * i32(across.stride);
  const i32 in_map =
      i32(down.map_start) + i * i32(down.map_stride) + i32(across.map_start) + j * i32(across.map_stride);
  return {n * Index(args.source_image) + in_source, n * Index(args.map_image) + in_map, y, x};
}

FN Spot<i32> tap_at(const Conv& args, const Window& window, i32 c, i32 r, i32 s) {
  const Axis &down = window.down, &across = window.across;
  const i32 y = i32(down.start) + r * i32(down.tap_step), x = i32(across.start) + s * i32(across.tap_step);
  const i32 in_source = c * i32(args.source_channel) + y * i32(down.stride) + x * i32(across.stride);
  const i32 in_weight = c * i32(args.weight_channel) + i32(down.weight_start) + r * i32(down.weight_stride) +
                        i32(across.weight_start) + s * i32(across.weight_stride);
  return {in_source, in_weight, y, x};
}

// A number as digits: `inner` counts fastest.
struct Digits {
  i32 outer, middle, inner;
};

FN Digits digits(i32 number, i32 middles, i32 inners) {
  const u32 rest = u32(number) / u32(inners), outer = rest / u32(middles);
  return {i32(outer), i32(rest - outer * u32(middles)), number - i32(rest * u32(inners))};
}

// Of which image an element is, and its number there. In 64 bits only where 32 do not suffice: that division is several
// times as slow.
struct InImage {
  i64 image;
  i32 number;

  FN InImage(i64 element, i64 per_image) {
    image = element < i64(1) << 32 ? i64(u32(element) / u32(per_image)) : element / per_image;
    number = i32(element - image * per_image);
  }
};

// The first elements of a group.
template <class T>
FN T* map_of(const Conv& args, i64 group) {
  return static_cast<T*>(args.map) + group * args.rows * args.map_row;
}
template <class T>
FN T* weight_of(const Conv& args, i64 group) {
  return static_cast<T*>(args.weight) + group * args.weight_group;
}
template <class T>
FN const T* source_of(const Conv& args, i64 group) {
  return static_cast<const T*>(args.source) + group * args.channels * args.source_channel;
}
template <class T>
FN Compute<T> bias_of(const Conv& args, i64 row) {
  return args.bias == nullptr ? Compute<T>(0) : widen(static_cast<const T*>(args.bias)[row * args.bias_row]);
}

// A sum over pixels, or over a split of them, where it belongs. `row` counts those of all groups.
template <class T>
FN void store_weight(const Conv& args, i64 row, i64 tap, i64 taps, T* place, i64 split, Compute<T> sum) {
  if (args.splits == 1) *place = narrow<T>(sum);
  else static_cast<Compute<T>*>(args.partial)[(split * args.groups * args.rows + row) * taps + tap] = sum;
}
