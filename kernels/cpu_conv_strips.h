// What the convolutions of device "cpu" share: their geometry, images with their padding, and strips of the result with
// what filters meet there. See cpu_conv.h.
#pragma once
#include "cpu_rows.h"
#include "cpu_tile.h"

namespace cpu {

template <class T>
constexpr i64 STRIP = 2 * WIDTH<T>;
// Rows of a strip lie apart by one vector more: whole vectors are copied, so what follows a row is written, too.
template <class T>
constexpr i64 ROW = STRIP<T> + WIDTH<T>;

// --- geometry --------------------------------------------------------------------------------------------------------

struct Convolution {
  i64 images, groups, channels, filters;  // the last two per group
  i64 height, width;                      // of x
  i64 rows, columns;                      // of the result
  i64 step;                               // from row to row of the covered area
  i64 kernel[2], stride[2], padding[2], dilation[2];

  i64 positions() const { return kernel[0] * kernel[1]; }
  i64 met() const { return channels * positions(); }  // elements of a filter
  i64 pixels() const { return rows * columns; }
  i64 plane() const { return height * width; }
  // What all windows cover together, the padding before the first element included.
  i64 extent(int k) const { return ((k == 0 ? rows : columns) - 1) * stride[k] + (kernel[k] - 1) * dilation[k] + 1; }
  i64 covered() const { return extent(0) * step; }
  i64 products() const { return filters * met() * pixels(); }  // for an image and a group
};

// Part of a strip that lies in one row of the result.
struct Run {
  i64 at, count;  // in the strip
  i64 from;       // in the covered area, for the kernel's first position
};

template <class T>
struct Strip {
  i64 first, count, runs = 0;
  Run run[STRIP<T>];

  Strip(const Convolution& conv, i64 number) : first(number * STRIP<T>) {
    const i64 left = conv.pixels() - first;
    count = left < STRIP<T> ? left : STRIP<T>;
    for (i64 at = 0; at < count;) {
      const i64 row = (first + at) / conv.columns, column = (first + at) % conv.columns;
      const i64 in_row = conv.columns - column, length = in_row < count - at ? in_row : count - at;
      run[runs++] = {at, length, row * conv.stride[0] * conv.step + column * conv.stride[1]};
      at += length;
    }
  }
};

template <class T>
i64 strips_of(const Convolution& conv) {
  return (conv.pixels() + STRIP<T> - 1) / STRIP<T>;
}

// --- an image with its padding ---------------------------------------------------------------------------------------

// How many rows and columns of x lie in the covered area.
struct Overlap {
  i64 rows, columns;
  explicit Overlap(const Convolution& conv)
      : rows(shared(conv.height, conv.extent(0) - conv.padding[0])),
        columns(shared(conv.width, conv.extent(1) - conv.padding[1])) {}

 private:
  static i64 shared(i64 size, i64 covered) { return covered < 0 ? 0 : covered < size ? covered : size; }
};

// The covered areas of the channels of one image and group.
template <class T>
void surround(const Convolution& conv, const T* x, T* image) {
  const Overlap overlap(conv);
  const i64 width = conv.extent(1), left = conv.padding[1];
  for (i64 c = 0; c < conv.channels; ++c, x += conv.plane(), image += conv.covered()) {
    for (i64 h = 0; h < conv.extent(0); ++h) {
      T* const to = image + h * conv.step;
      const i64 row = h - conv.padding[0];
      const i64 inside = row < 0 || row >= overlap.rows ? 0 : overlap.columns;
      const i64 before = left < width ? left : width;
      for (i64 k = 0; k < before; ++k) to[k] = 0;
      for (i64 k = 0; k < inside; ++k) to[left + k] = x[row * conv.width + k];
      for (i64 k = before + inside; k < width; ++k) to[k] = 0;
    }
  }
}

// The opposite: x's part of the covered areas, plus `bias` if there is one.
template <class T>
void uncover(const Convolution& conv, const T* image, const T* bias, T* x) {
  const Overlap overlap(conv);
  for (i64 c = 0; c < conv.channels; ++c, x += conv.plane(), image += conv.covered()) {
    const T added = bias == nullptr ? T(0) : bias[c];
    for (i64 h = 0; h < conv.height; ++h) {
      const T* const from = image + (h + conv.padding[0]) * conv.step + conv.padding[1];
      T* const to = x + h * conv.width;
      const i64 inside = h < overlap.rows ? overlap.columns : 0;
      for (i64 k = 0; k < inside; ++k) to[k] = from[k] + added;
      for (i64 k = inside; k < conv.width; ++k) to[k] = added;
    }
  }
}

// --- strips ----------------------------------------------------------------------------------------------------------

// What each element of a filter meets: where it lies in the covered areas, from where its window begins.
struct Met {
  i64 element;  // of the filter
  i64 offset;
};

// All elements of a filter, the kernel's columns last. Consecutive ones lie in other rows or channels: what is added to
// one of them need not wait for an addition that was shifted by one place.
inline void list_elements(const Convolution& conv, Met* met) {
  for (i64 s = 0; s < conv.kernel[1]; ++s) {
    for (i64 c = 0; c < conv.channels; ++c) {
      for (i64 r = 0; r < conv.kernel[0]; ++r) {
        const i64 element = (c * conv.kernel[0] + r) * conv.kernel[1] + s;
        *met++ = {element, c * conv.covered() + r * conv.dilation[0] * conv.step + s * conv.dilation[1]};
      }
    }
  }
}

// values[element][...]: what the elements of a filter meet in a strip. Zeros follow where the strip ends early.
template <class T>
void gather(const Convolution& conv, const Strip<T>& strip, const Met* met, const T* image, T* values) {
  const i64 count = conv.met(), step = conv.stride[1];
  for (i64 k = 0; k < strip.runs; ++k) {
    const Run run = strip.run[k];
    T* to = values + run.at;
    const T* const from = image + run.from;
    if (step != 1) {
      for (i64 l = 0; l < count; ++l, to += ROW<T>) {
        for (i64 j = 0; j < run.count; ++j) to[j] = from[met[l].offset + j * step];
      }
    } else if (run.count <= WIDTH<T>) {
      for (i64 l = 0; l < count; ++l, to += ROW<T>) store(to, load(from + met[l].offset));
    } else {
      for (i64 l = 0; l < count; ++l, to += ROW<T>) {
        store(to, load(from + met[l].offset));
        store(to + WIDTH<T>, load(from + met[l].offset + WIDTH<T>));
      }
    }
  }
  if (strip.count == STRIP<T>) return;
  for (i64 l = 0; l < count; ++l) {
    for (i64 k = strip.count; k < STRIP<T>; ++k) values[l * ROW<T> + k] = 0;
  }
}

// Adds slopes[element][...] to the image where they were met.
template <class T>
void scatter(const Convolution& conv, const Strip<T>& strip, const Met* met, const T* slopes, T* image) {
  const i64 count = conv.met(), step = conv.stride[1];
  for (i64 k = 0; k < strip.runs; ++k) {
    const Run run = strip.run[k];
    T* const to = image + run.from;
    const T* from = slopes + run.at;
    if (step != 1) {
      for (i64 l = 0; l < count; ++l, from += ROW<T>) {
        for (i64 j = 0; j < run.count; ++j) to[met[l].offset + j * step] += from[j];
      }
      continue;
    }
    for (i64 j = 0; j < run.count; j += WIDTH<T>) {
      const FirstLanes<T> belonging(run.count - j);
      for (i64 l = 0; l < count; ++l) {
        T* const at = to + met[l].offset + j;
        store(at, load(at) + belonging.of(load(from + l * ROW<T> + j)));
      }
    }
  }
}

// --- a call ---------------------------------------------------------------------------------------------------------

template <class T>
struct ConvCall {
  T* out;
  const T *x, *g, *weight, *bias;  // x or g is what is not the result; bias may be null
  Convolution conv;
};

template <class T>
struct ConvTask : Task, ConvCall<T> {
  using ConvCall<T>::conv;
  using ConvCall<T>::weight;

 protected:
  // Images have one vector more, since whole vectors are read.
  i64 image_elements() const { return conv.channels * conv.covered() + WIDTH<T>; }
  static i64 strip_elements(i64 rows) { return (rows + 1) * ROW<T>; }

  const Met* elements() const {
    thread_local Scratch memory;
    Met* const met = memory_of<Met>(memory, conv.met());
    list_elements(conv, met);
    return met;
  }
  // The weights of all groups, in the order in which tiles read them: value(weights of a group, row, step).
  template <class Value>
  const T* packed(i64 rows, i64 count, const Value& value) const {
    thread_local Scratch memory;
    const i64 elements = rows * count;
    T* const to = memory_of<T>(memory, conv.groups * elements);
    for (i64 k = 0; k < conv.groups; ++k) {
      const T* const from = weight + k * elements;
      pack_rows(to + k * elements, rows, count, [&](i64 row, i64 l) { return value(from, row, l); });
    }
    return to;
  }
  static T* working_memory(i64 elements) { return memory_of<T>(scratch, elements); }

  // Rows of strips are too short for the processor to foresee what is read next.
  static void fetch_next_strip(const T* row) {
    for (i64 k = 0; k < 2; ++k) __builtin_prefetch(row + STRIP<T> + k * WIDTH<T>);
  }

  template <class Item>
  static Item* memory_of(Scratch& memory, i64 items) {
    memory.reserve(items * i64(sizeof(Item)));
    return memory.take<Item>(items);
  }
};

}  // namespace cpu
