// Convolutions of device "cpu" in which each filter sees one channel, and each channel one filter: a few products for
// each element, too few to lay out windows for. They read an image row by row where it lies.
//
// Contract: that of cpu_conv.h, for groups of one channel and one filter and a stride of 1 along the rows. The
// derivative in the input is such a convolution, too, of the gradient with the mirrored filter.
#pragma once
#include "cpu_conv_strips.h"

namespace cpu {

// Whether the filters see one channel each, in steps of 1 along the rows.
inline bool is_depthwise(const Convolution& conv) {
  return conv.channels == 1 && conv.filters == 1 && conv.groups > 1 && conv.stride[1] == 1;
}

enum class Filter { as_it_is, mirrored };  // the mirrored one is that of a derivative

template <class T, Filter filter>
struct Depthwise : ConvTask<T> {
  bool operator()() {
    const Met* const elements = this->elements();
    parallel_for(this->conv.images * this->conv.groups, units_per_thread(this->conv.products()),
                 [=, this](i64 begin, i64 end) {
      if constexpr (filter == Filter::mirrored) {
        const FlushDenormals flushing;
        loop(begin, end, elements);
      } else {
        loop(begin, end, elements);
      }
    });
    return true;
  }

 private:
  void loop(i64 begin, i64 end, const Met* elements) const {
    const Convolution conv = this->conv;
    T* const image = this->working_memory(this->image_elements() + STRIP<T>);
    for (i64 unit = begin; unit < end; ++unit) {
      const i64 group = unit % conv.groups;
      surround(conv, this->x + unit * conv.plane(), image);
      fill(elements, this->weight + group * conv.met(), image, this->bias == nullptr ? T(0) : this->bias[group],
           this->out + unit * conv.pixels());
    }
  }

  void fill(const Met* elements, const T* weight, const T* image, T bias, T* out) const {
    const Convolution conv = this->conv;
    for (i64 p = 0; p < conv.rows; ++p) {
      for (i64 q = 0; q < conv.columns; q += STRIP<T>) {
        const T* const from = image + p * conv.stride[0] * conv.step + q;
        Vector<T> sum[2] = {repeated(bias), repeated(bias)};
        for (i64 l = 0; l < conv.met(); ++l) {
          const i64 at = elements[l].element;
          const Vector<T> factor = repeated(weight[filter == Filter::mirrored ? conv.met() - 1 - at : at]);
          for (int v = 0; v < 2; ++v) sum[v] = fused(factor, load(from + elements[l].offset + v * WIDTH<T>), sum[v]);
        }
        T* const to = out + p * conv.columns + q;
        const i64 left = conv.columns - q;
        if (left >= STRIP<T>) {
          for (int v = 0; v < 2; ++v) store(to + v * WIDTH<T>, sum[v]);
        } else {
          memcpy(to, sum, size_t(left) * sizeof(T));
        }
      }
    }
  }
};

// The sums over an image go lane by lane, those over images one by one.
template <class T>
struct DepthwiseWeightGrad : ConvTask<T> {
  bool operator()() {
    const Convolution conv = this->conv;
    const Met* const elements = this->elements();
    parallel_for(conv.groups, units_per_thread(conv.products() * conv.images), [&, this](i64 begin, i64 end) {
      const FlushDenormals flushing;
      const i64 of_image = this->image_elements() + STRIP<T>;
      T* const image = this->working_memory(of_image + conv.rows * row_of_g());
      for (i64 group = begin; group < end; ++group) {
        T* const to = this->out + group * conv.met();
        for (i64 l = 0; l < conv.met(); ++l) to[l] = 0;
        for (i64 n = 0; n < conv.images; ++n) add_image(n * conv.groups + group, elements, image, image + of_image, to);
      }
    });
    return true;
  }

 private:
  i64 row_of_g() const { return (this->conv.columns + WIDTH<T> - 1) / WIDTH<T> * WIDTH<T>; }

  void add_image(i64 unit, const Met* elements, T* image, T* g, T* to) const {
    const Convolution conv = this->conv;
    surround(conv, this->x + unit * conv.plane(), image);
    for (i64 p = 0; p < conv.rows; ++p) {
      const T* const from = this->g + unit * conv.pixels() + p * conv.columns;
      for (i64 q = 0; q < row_of_g(); ++q) g[p * row_of_g() + q] = q < conv.columns ? from[q] : T(0);
    }
    for (i64 l = 0; l < conv.met(); ++l) to[elements[l].element] += sum_of_products(image + elements[l].offset, g);
  }

  // Beyond the end of a row the image's next one begins, which does not count.
  T sum_of_products(const T* image, const T* g) const {
    const Convolution conv = this->conv;
    const i64 step = row_of_g(), whole = conv.columns / WIDTH<T> * WIDTH<T>;
    const FirstLanes<T> rest(conv.columns - whole);
    Vector<T> sum[2] = {};
    for (i64 p = 0; p < conv.rows; ++p) {
      const T *const x = image + p * conv.stride[0] * conv.step, *const slopes = g + p * step;
      for (i64 q = 0; q < whole; q += WIDTH<T>) sum[0] = fused(load(slopes + q), load(x + q), sum[0]);
      if (whole < step) sum[1] = fused(load(slopes + whole), rest.of(load(x + whole)), sum[1]);
    }
    const Vector<T> both = sum[0] + sum[1];
    T total = 0;
    for (int k = 0; k < WIDTH<T>; ++k) total += both[k];
    return total;
  }
};

// The convolution of g that is the derivative of a depthwise one in x, if that has zeros around g and a stride of 1.
inline bool turn_depthwise(Convolution& conv) {
  Convolution turned = conv;
  turned.height = conv.rows;
  turned.width = conv.columns;
  turned.rows = conv.height;
  turned.columns = conv.width;
  for (int k = 0; k < 2; ++k) turned.padding[k] = (conv.kernel[k] - 1) * conv.dilation[k] - conv.padding[k];
  if (conv.stride[0] != 1 || turned.padding[0] < 0 || turned.padding[1] < 0) return false;
  turned.step = turned.extent(1);
  conv = turned;
  return true;
}

}  // namespace cpu
