// Convolutions of device "cpu" and their derivatives, as products of small matrices.
//
// Contract: that of tensorlite/backends/cpu_conv.py, for dense arrays of float32 or float64. With C channels and K
// filters per group, an image is worked on strip by strip: STRIP elements of the result, counted along its rows. A strip
// is a matrix of STRIP columns; its C·R·S rows are what each element of a filter meets there, copied from the image,
// which was copied with its padding first. So no matrix is larger than a cache, however large the image.
//
//   forward       result[K][STRIP] = weight[K][CRS] · met[CRS][STRIP]
//   input grad    slopes[CRS][STRIP] = weightᵀ[CRS][K] · g[K][STRIP], added to the image where they were met
//   weight grad   sums[CRS][K] += met[CRS][STRIP] · gᵀ[STRIP][K], in several sums over images, which are added in order
//
// What is computed does not depend on the number of threads.
#pragma once
#include "cpu_conv_depthwise.h"
#include "cpu_conv_strips.h"
#include "cpu_layer_norm.h"

namespace cpu {

template <class T>
struct ConvForward : ConvTask<T> {
  bool operator()() {
    const Convolution conv = this->conv;
    const Met* const elements = this->elements();
    const T* const weight = this->packed(conv.filters, conv.met(), [&](const T* from, i64 filter, i64 l) {
      return from[filter * conv.met() + elements[l].element];
    });
    const i64 units = conv.images * conv.groups, parts = units < FEW ? strips_of<T>(conv) : 1;
    parallel_for(units * parts, units_per_thread(conv.products() / parts), [&, this](i64 begin, i64 end) {
      T* const met = this->working_memory(this->strip_elements(conv.met()) + this->image_elements());
      T* const image = met + this->strip_elements(conv.met());
      for (i64 at = begin; at < end; ++at) {
        const i64 unit = at / parts, group = unit % conv.groups;
        if (at == begin || at % parts == 0) surround(conv, this->x + unit * conv.channels * conv.plane(), image);
        const i64 first = parts == 1 ? 0 : at % parts, last = parts == 1 ? strips_of<T>(conv) : first + 1;
        for (i64 k = first; k < last; ++k) {
          const Strip<T> strip(conv, k);
          gather(conv, strip, elements, image, met);
          multiply(strip, weight + group * conv.filters * conv.met(), met, group,
                   this->out + unit * conv.filters * conv.pixels());
        }
      }
    });
    return true;
  }

 private:
  static constexpr i64 FEW = 16;  // of so few images threads share the strips

  void multiply(const Strip<T>& strip, const T* weight, const T* met, i64 group, T* out) const {
    const i64 pixels = this->conv.pixels(), count = this->conv.met();
    const T* const bias = this->bias == nullptr ? nullptr : this->bias + group * this->conv.filters;
    for_tiles(this->conv.filters, [&](i64 first, auto rows) {
      Tile<T, rows.COUNT, 2> tile;
      for (int i = 0; i < rows.COUNT; ++i) tile.start_row(i, bias == nullptr ? T(0) : bias[first + i]);
      tile.add_products(weight + first * count, 1, rows.COUNT, met, ROW<T>, count);
      T* const to = out + first * pixels + strip.first;
      if (strip.count == STRIP<T>) return tile.write(to, pixels);
      T whole[rows.COUNT * STRIP<T>];
      tile.write(whole, STRIP<T>);
      const size_t bytes = size_t(strip.count) * sizeof(T);
      for (int i = 0; i < rows.COUNT; ++i) memcpy(to + i * pixels, whole + i * STRIP<T>, bytes);
    });
  }
};

template <class T>
struct ConvInputGrad : ConvTask<T> {
  bool operator()() {
    const Convolution conv = this->conv;
    const Met* const elements = this->elements();
    const T* const weight = this->packed(conv.met(), conv.filters, [&](const T* from, i64 l, i64 filter) {
      return from[filter * conv.met() + elements[l].element];
    });
    parallel_for(conv.images * conv.groups, units_per_thread(conv.products()), [&, this](i64 begin, i64 end) {
      const FlushDenormals flushing;
      const i64 of_g = this->strip_elements(conv.filters), of_slopes = this->strip_elements(conv.met());
      T* const g = this->working_memory(of_g + of_slopes + this->image_elements());
      T *const slopes = g + of_g, *const image = slopes + of_slopes;
      for (i64 unit = begin; unit < end; ++unit) {
        const i64 group = unit % conv.groups;
        memset(image, 0, size_t(this->image_elements()) * sizeof(T));
        for (i64 k = 0; k < strips_of<T>(conv); ++k) {
          const Strip<T> strip(conv, k);
          copy_strip(strip, this->g + unit * conv.filters * conv.pixels(), g);
          multiply(weight + group * conv.filters * conv.met(), g, slopes);
          scatter(conv, strip, elements, slopes, image);
        }
        uncover(conv, image, this->bias == nullptr ? nullptr : this->bias + group * conv.channels,
                this->out + unit * conv.channels * conv.plane());
      }
    });
    return true;
  }

 private:
  void copy_strip(const Strip<T>& strip, const T* g, T* to) const {
    for (i64 k = 0; k < this->conv.filters; ++k, to += ROW<T>) {
      const T* const from = g + k * this->conv.pixels() + strip.first;
      this->fetch_next_strip(from);
      memcpy(to, from, size_t(strip.count) * sizeof(T));
    }
  }
  void multiply(const T* weight, const T* g, T* slopes) const {
    const i64 count = this->conv.filters;
    for_tiles(this->conv.met(), [&](i64 first, auto rows) {
      Tile<T, rows.COUNT, 2> tile;
      tile.start(0);
      tile.add_products(weight + first * count, 1, rows.COUNT, g, ROW<T>, count);
      tile.write(slopes + first * ROW<T>, ROW<T>);
    });
  }
};

// The sums have the filters side by side: sums[group][element][filters, rounded up to vectors].
template <class T>
struct ConvWeightGrad : ConvTask<T> {
  bool operator()() {
    const Convolution conv = this->conv;
    const i64 elements = conv.groups * conv.met() * padded_filters(), parts = number_of_sums(elements);
    thread_local Scratch memory;
    T* const sums = this->template memory_of<T>(memory, parts * elements);
    const Met* const met = this->elements();
    parallel_for(parts, units_per_thread(conv.products() * conv.groups * conv.images / parts),
                 [&, this](i64 begin, i64 end) {
      const FlushDenormals flushing;
      for (i64 part = begin; part < end; ++part) {
        add_images(conv.images * part / parts, conv.images * (part + 1) / parts, met, sums + part * elements);
      }
    });
    const FlushDenormals flushing;
    for (i64 part = 1; part < parts; ++part) {
      const T* const more = sums + part * elements;
      for (i64 k = 0; k < elements; ++k) sums[k] += more[k];
    }
    write(met, sums);
    return true;
  }

 private:
  static constexpr i64 LEAST_SUMS = 2, MOST_SUMS = 16, MOST_ELEMENTS = 1 << 20, ELEMENTS_OF_BLOCK = 1 << 15;

  i64 padded_filters() const { return (this->conv.filters + WIDTH<T> - 1) / WIDTH<T> * WIDTH<T>; }
  i64 number_of_sums(i64 elements) const {
    const i64 fitting = MOST_ELEMENTS / elements + LEAST_SUMS, most = fitting < MOST_SUMS ? fitting : MOST_SUMS;
    return this->conv.images < most ? this->conv.images : most;
  }
  // How many strips are worked on together, so that a tile of sums is read and written once for all of them.
  i64 strips_of_block() const {
    const i64 fitting = ELEMENTS_OF_BLOCK / (this->conv.met() * STRIP<T>);
    return fitting < 1 ? 1 : fitting < strips_of<T>(this->conv) ? fitting : strips_of<T>(this->conv);
  }

  void add_images(i64 begin, i64 end, const Met* elements, T* sums) const {
    const Convolution conv = this->conv;
    const i64 strips = strips_of_block(), of_met = this->strip_elements(strips * conv.met());
    const i64 of_g = strips * STRIP<T> * padded_filters();
    T* const met = this->working_memory(of_met + of_g + this->image_elements());
    T *const g = met + of_met, *const image = g + of_g;
    memset(sums, 0, size_t(conv.groups * conv.met() * padded_filters()) * sizeof(T));
    for (i64 unit = begin * conv.groups; unit < end * conv.groups; ++unit) {
      surround(conv, this->x + unit * conv.channels * conv.plane(), image);
      for (i64 first = 0; first < strips_of<T>(conv); first += strips) {
        const i64 left = strips_of<T>(conv) - first, count = left < strips ? left : strips;
        for (i64 k = 0; k < count; ++k) {
          const Strip<T> strip(conv, first + k);
          gather(conv, strip, elements, image, met + k * conv.met() * ROW<T>);
          turn(strip, this->g + unit * conv.filters * conv.pixels(), g + k * STRIP<T> * padded_filters());
        }
        add_products(met, g, count, sums + unit % conv.groups * conv.met() * padded_filters());
      }
    }
  }

  // to[pixel][filter] = g[filter][pixel] in a strip, and zeros beside and below it.
  void turn(const Strip<T>& strip, const T* g, T* to) const {
    const i64 filters = this->conv.filters, step = padded_filters();
    if (strip.count < STRIP<T> || filters < step) memset(to, 0, size_t(STRIP<T> * step) * sizeof(T));
    for (i64 k = 0; k < filters; ++k) {
      const T* const from = g + k * this->conv.pixels() + strip.first;
      this->fetch_next_strip(from);
      for (i64 j = 0; j < strip.count; ++j) to[j * step + k] = from[j];
    }
  }

  void add_products(const T* met, const T* g, i64 strips, T* sums) const {
    const i64 step = padded_filters(), rows_of_strip = this->conv.met() * ROW<T>;
    const auto add = [&](i64 first, i64 filter, auto rows, auto vectors) {
      Tile<T, rows.COUNT, vectors.COUNT> tile;
      T* const to = sums + first * step + filter;
      tile.read(to, step);
      for (i64 k = 0; k < strips; ++k) {
        tile.add_products(met + k * rows_of_strip + first * ROW<T>, ROW<T>, 1, g + k * STRIP<T> * step + filter, step,
                          STRIP<T>);
      }
      tile.write(to, step);
    };
    for_tiles(this->conv.met(), [&](i64 first, auto rows) {
      i64 filter = 0;
      for (; filter + 2 * WIDTH<T> <= step; filter += 2 * WIDTH<T>) add(first, filter, rows, TileRows<2>{});
      if (filter < step) add(first, filter, rows, TileRows<1>{});
    });
  }

  void write(const Met* elements, const T* sums) const {
    const i64 met = this->conv.met(), step = padded_filters();
    for (i64 group = 0; group < this->conv.groups; ++group) {
      for (i64 k = 0; k < this->conv.filters; ++k) {
        T* const to = this->out + (group * this->conv.filters + k) * met;
        for (i64 l = 0; l < met; ++l) to[elements[l].element] = sums[(group * met + l) * step + k];
      }
    }
  }
};

// --- arguments -------------------------------------------------------------------------------------------------------

// The images, the weight and the result of a convolution, of which one is `out` and the others are arguments.
inline bool read_convolution(Arguments& arguments, const Array& x, const Array& weight, const Array& result,
                             Convolution& conv) {
  if (x.ndim != 4 || weight.ndim != 4 || result.ndim != 4) return false;
  conv.groups = arguments.integer("groups");
  arguments.pair("stride", conv.stride);
  arguments.pair("padding", conv.padding);
  arguments.pair("dilation", conv.dilation);
  if (!arguments.readable() || x.size() == 0 || weight.size() == 0 || result.size() == 0) return false;
  conv.images = x.shape[0];
  conv.channels = weight.shape[1];
  conv.filters = weight.shape[0] / conv.groups;
  conv.height = x.shape[2];
  conv.width = x.shape[3];
  conv.rows = result.shape[2];
  conv.columns = result.shape[3];
  for (int k = 0; k < 2; ++k) conv.kernel[k] = weight.shape[2 + k];
  return true;
}

template <class Kernel, class T>
void add_convolution(Tape& tape, const ConvCall<T>& call) {
  const i64 work = call.conv.products() * call.conv.groups * call.conv.images / 16;
  auto& task = tape.add<Kernel>(work + call.conv.images * call.conv.pixels());
  static_cast<ConvCall<T>&>(task) = call;
}

enum class ConvKind { forward, input_grad, weight_grad };

// A depthwise convolution by the kernels for such; false where there is none.
template <class T, ConvKind kind>
bool prepare_depthwise(Tape& tape, ConvCall<T> call) {
  if constexpr (kind == ConvKind::forward) {
    add_convolution<Depthwise<T, Filter::as_it_is>>(tape, call);
  } else if constexpr (kind == ConvKind::weight_grad) {
    add_convolution<DepthwiseWeightGrad<T>>(tape, call);
  } else {
    if (!turn_depthwise(call.conv)) return false;
    call.x = call.g;
    add_convolution<Depthwise<T, Filter::mirrored>>(tape, call);
  }
  return true;
}

// conv2d(out, x, weight, bias), conv2d_input_grad(out, g, weight, bias), conv2d_weight_grad(out, g, x)
template <template <class> class Kernel, class T, ConvKind kind>
bool prepare_convolution_of(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array(0), *left = arguments.array(1), *right = arguments.array(2);
  if (!is_dense<T>(out) || !is_dense<T>(left) || !is_dense<T>(right)) return false;
  const Array *x = left, *weight = right, *result = out;
  if (kind == ConvKind::input_grad) x = out, result = left;
  if (kind == ConvKind::weight_grad) x = right, weight = out, result = left;
  Convolution conv;
  if (!read_convolution(arguments, *x, *weight, *result, conv)) return false;
  const T* bias = nullptr;
  if (kind != ConvKind::weight_grad && !read_vector(arguments, 3, out->shape[1], bias)) return false;
  ConvCall<T> call;
  call.out = reinterpret_cast<T*>(out->data);
  call.x = reinterpret_cast<const T*>(x->data);
  call.g = reinterpret_cast<const T*>(result->data);
  call.weight = reinterpret_cast<const T*>(weight->data);
  call.bias = bias;
  call.conv = conv;
  call.conv.step = conv.extent(1);
  if (is_depthwise(conv) && prepare_depthwise<T, kind>(tape, call)) return true;
  // What is added to a row is a whole vector, and should not touch the next row, which is added to soon after.
  if (kind == ConvKind::input_grad) call.conv.step += WIDTH<T>;
  add_convolution<Kernel<T>>(tape, call);
  return true;
}

template <template <class> class Kernel, ConvKind kind>
bool prepare_convolution(Arguments& arguments, Tape& tape) {
  return prepare_convolution_of<Kernel, float, kind>(arguments, tape) ||
         prepare_convolution_of<Kernel, double, kind>(arguments, tape);
}

}  // namespace cpu
