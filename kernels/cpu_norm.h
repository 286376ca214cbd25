// BatchNorm and its kin of device "cpu", over x (N, C, ...): moments, the normalised x, and the derivatives.
//
// A plane is what one sample holds of one channel: neighbouring elements. A statistic belongs to a channel, or to a
// group of neighbouring channels of one sample. Sums run over lanes, or over columns of some rows, in T, and from there
// on in double, in an order that the shape alone decides. Where planes are short, a sample is a row whose columns are
// looked at side by side, COLUMNS at a time.
#pragma once
#include "cpu_layer_norm.h"

namespace cpu {

constexpr i64 SHORT_PLANE = 16;  // elements below which planes are not looked at one by one
constexpr i64 COLUMNS = 256;     // columns that are looked at side by side
constexpr i64 ROWS_IN_T = 64;    // whose sums are rounded to T

// Where the elements of statistics lie: `count` statistics, each over `outer` stretches of `inner` neighbours.
struct Stretches {
  i64 outer, count, inner;

  i64 size() const { return outer * inner; }
  bool are_short() const { return inner < SHORT_PLANE; }
};

// x (N, C, ...), and of how many channels of a sample each statistic is; 0: of a channel of all samples.
struct Channels {
  i64 samples, channels, plane, together;

  i64 planes() const { return samples * channels; }
  i64 size() const { return planes() * plane; }
  i64 statistic_of(i64 p) const { return together == 0 ? p % channels : p / together; }
  Stretches stretches() const {
    if (together == 0) return {samples, channels, plane};
    return {1, planes() / together, together * plane};
  }
  // Whether samples are looked at as rows.
  bool are_columns() const { return together == 0 && plane < SHORT_PLANE; }
};

// Call body(first channel, channels) for blocks of channels in [begin, end) of at most COLUMNS columns each.
template <class Body>
void for_column_blocks(i64 begin, i64 end, i64 inner, const Body& body) {
  const i64 at_once = COLUMNS / inner;
  for (i64 first = begin; first < end; first += at_once) body(first, end - first < at_once ? end - first : at_once);
}

// total[k] += the sum over rows r of term(r, k), for `width` columns k.
template <class T, class Term>
void add_columns(double (&total)[COLUMNS], i64 rows, i64 width, const Term& term) {
  for (i64 begin = 0; begin < rows; begin += ROWS_IN_T) {
    const i64 end = begin + ROWS_IN_T < rows ? begin + ROWS_IN_T : rows;
    T sum[COLUMNS] = {};
    for (i64 r = begin; r < end; ++r) {
#pragma GCC ivdep
      for (i64 k = 0; k < width; ++k) sum[k] += term(r, k);
    }
    for (i64 k = 0; k < width; ++k) total[k] += double(sum[k]);
  }
}

// The sum of the columns of a channel, the `channel`-th of its block.
inline double of_channel(const double (&columns)[COLUMNS], i64 channel, i64 inner) {
  double sum = 0;
  for (i64 i = 0; i < inner; ++i) sum += columns[channel * inner + i];
  return sum;
}

// --- moments ---------------------------------------------------------------------------------------------------------

template <class T>
struct ChannelMoments : Task {
  T *mean, *var;
  const T* x;
  Stretches stretches;

  bool operator()() {
    const i64 inner = stretches.inner;
    parallel_for(stretches.count, rows_per_thread(stretches.size()), [this, inner](i64 begin, i64 end) {
      const FlushDenormals flushing;
      if (stretches.are_short()) {
        for_column_blocks(begin, end, inner, [this](i64 first, i64 count) { of_columns(first, count); });
      } else {
        for (i64 s = begin; s < end; ++s) of_stretches(s);
      }
    });
    return true;
  }

 private:
  // Passes over a stretch while it lies in the cache, corrected for the rounding of its mean, joined by Chan's formula.
  void of_stretches(i64 s) const {
    const i64 inner = stretches.inner;
    double center = 0, squares = 0;
    for (i64 n = 0; n < stretches.outer; ++n) {
      const T* const from = x + (n * stretches.count + s) * inner;
      const T here = sum_of_row<T>(inner, [=](i64 i) { return from[i]; }) / T(inner);
      const double rest = double(sum_of_row<T>(inner, [=](i64 i) { return from[i] - here; })) / double(inner);
      const double distance = double(here) + rest - center, share = 1.0 / double(n + 1);
      squares += double(sum_of_row<T>(inner, [=](i64 i) { return (from[i] - here) * (from[i] - here); }));
      squares += distance * distance * (double(n * inner) * share) - rest * rest * double(inner);
      center += distance * share;
    }
    mean[s] = T(center);
    var[s] = T((squares < 0 ? 0 : squares) / double(stretches.size()));
  }

  void of_columns(i64 first, i64 count) const {
    const i64 inner = stretches.inner, width = count * inner, row = stretches.count * inner;
    const T* const from = x + first * inner;
    double sums[COLUMNS] = {}, squares[COLUMNS] = {};
    T centers[COLUMNS];
    add_columns<T>(sums, stretches.outer, width, [=](i64 r, i64 k) { return from[r * row + k]; });
    for (i64 c = 0; c < count; ++c) {
      const T center = T(of_channel(sums, c, inner) / double(stretches.size()));
      mean[first + c] = center;
      for (i64 i = 0; i < inner; ++i) centers[c * inner + i] = center;
    }
    add_columns<T>(squares, stretches.outer, width, [=, &centers](i64 r, i64 k) {
      return (from[r * row + k] - centers[k]) * (from[r * row + k] - centers[k]);
    });
    for (i64 c = 0; c < count; ++c) {
      var[first + c] = T(of_channel(squares, c, inner) / double(stretches.size()));
    }
  }
};

// --- the normalised x ------------------------------------------------------------------------------------------------

template <class T>
struct BatchNormOperands {
  const T *x, *weight, *bias, *mean, *var;  // weight and bias may be null
  Channels layout;
  T eps;

  T scale_of(i64 statistic) const { return T(1) / sqrt(var[statistic] + eps); }
  T weight_of(i64 channel) const { return weight == nullptr ? T(1) : weight[channel]; }
};

template <class T>
struct BatchNorm : Task, BatchNormOperands<T> {
  T* out;

  bool operator()() {
    const Channels& layout = this->layout;
    if (layout.are_columns()) {
      parallel_for(layout.samples, rows_per_thread(layout.channels * layout.plane), [&, this](i64 begin, i64 end) {
        const FlushDenormals flushing;
        for_column_blocks(0, layout.channels, layout.plane, [&, this](i64 first, i64 count) {
          normalise_columns(begin, end, first, count);
        });
      });
    } else {
      parallel_for(layout.planes(), rows_per_thread(layout.plane), [this](i64 begin, i64 end) {
        const FlushDenormals flushing;
        for (i64 p = begin; p < end; ++p) normalise_plane(p);
      });
    }
    return true;
  }

 private:
  T bias_of(i64 channel) const { return this->bias == nullptr ? T(0) : this->bias[channel]; }

  void normalise_plane(i64 p) const {
    const i64 size = this->layout.plane, s = this->layout.statistic_of(p), c = p % this->layout.channels;
    const T center = this->mean[s], scale = this->scale_of(s) * this->weight_of(c), shift = bias_of(c);
    const T* const from = this->x + p * size;
    T* const to = out + p * size;
#pragma GCC ivdep
    for (i64 i = 0; i < size; ++i) to[i] = (from[i] - center) * scale + shift;
  }

  void normalise_columns(i64 begin, i64 end, i64 first, i64 count) const {
    const i64 inner = this->layout.plane, width = count * inner, row = this->layout.channels * inner;
    T center[COLUMNS], scale[COLUMNS], shift[COLUMNS];
    for (i64 k = 0; k < width; ++k) {
      const i64 c = first + k / inner;
      center[k] = this->mean[c];
      scale[k] = this->scale_of(c) * this->weight_of(c);
      shift[k] = bias_of(c);
    }
    for (i64 r = begin; r < end; ++r) {
      const T* const from = this->x + r * row + first * inner;
      T* const to = out + r * row + first * inner;
#pragma GCC ivdep
      for (i64 k = 0; k < width; ++k) to[k] = (from[k] - center[k]) * scale[k] + shift[k];
    }
  }
};

// --- the derivatives -------------------------------------------------------------------------------------------------

// Of g, and of g times the distance of x from its mean.
template <class T>
struct GradSums {
  T level, along;
};

// What takes g and x to the derivative in x.
template <class T>
struct Slope {
  T gain, level, along, center;

  T operator()(T g, T x) const { return (g * gain - level) - (x - center) * along; }
};

// The sums of planes follow the task where statistics are of samples.
template <class T>
struct BatchNormGrad : Task, BatchNormOperands<T> {
  T *out, *weight_grad, *bias_grad;
  const T* g;
  bool training;

  bool operator()() {
    const Channels& layout = this->layout;
    if (layout.together != 0) {
      of_samples();
      return true;
    }
    parallel_for(layout.channels, rows_per_thread(layout.samples * layout.plane), [&, this](i64 begin, i64 end) {
      const FlushDenormals flushing;
      if (layout.are_columns()) {
        for_column_blocks(begin, end, layout.plane, [this](i64 first, i64 count) { of_columns(first, count); });
      } else {
        for (i64 c = begin; c < end; ++c) of_channel_of_planes(c);
      }
    });
    return true;
  }

 private:
  // By the sums of g weight, and of g weight (x - mean), over the elements of a statistic.
  Slope<T> slope_of(i64 statistic, T weight, double level, double along) const {
    const T scale = this->scale_of(statistic), center = this->mean[statistic];
    if (!training) return {scale * weight, T(0), T(0), center};
    const double mean_scale = double(scale) / double(this->layout.stretches().size());
    return {scale * weight, T(level * mean_scale), T(along * mean_scale * double(scale) * double(scale)), center};
  }

  GradSums<T> sums_of_plane(i64 p, T center) const {
    const i64 size = this->layout.plane;
    const T *const from_g = g + p * size, *const from_x = this->x + p * size;
    return {sum_of_row<T>(size, [=](i64 i) { return from_g[i]; }),
            sum_of_row<T>(size, [=](i64 i) { return from_g[i] * (from_x[i] - center); })};
  }

  void fill_plane(i64 p, const Slope<T>& given) const {
    const i64 size = this->layout.plane;
    const Slope<T> slope = given;
    const T *const from_g = g + p * size, *const from_x = this->x + p * size;
    T* const to = out + p * size;
#pragma GCC ivdep
    for (i64 i = 0; i < size; ++i) to[i] = slope(from_g[i], from_x[i]);
  }

  void store_parameters(i64 channel, double level, double along) const {
    weight_grad[channel] = T(along);
    bias_grad[channel] = T(level);
  }

  void of_channel_of_planes(i64 c) const {
    const i64 samples = this->layout.samples, channels = this->layout.channels;
    double level = 0, along = 0;
    for (i64 n = 0; n < samples; ++n) {
      const GradSums<T> sums = sums_of_plane(n * channels + c, this->mean[c]);
      level += double(sums.level);
      along += double(sums.along);
    }
    store_parameters(c, level, along * double(this->scale_of(c)));
    const double weight = double(this->weight_of(c));
    const Slope<T> slope = slope_of(c, T(weight), level * weight, along * weight);
    for (i64 n = 0; n < samples; ++n) fill_plane(n * channels + c, slope);
  }

  void of_columns(i64 first, i64 count) const {
    const i64 inner = this->layout.plane, width = count * inner, row = this->layout.channels * inner;
    const i64 samples = this->layout.samples;
    const T *const from_g = g + first * inner, *const from_x = this->x + first * inner;
    T* const to = out + first * inner;
    double levels[COLUMNS] = {}, alongs[COLUMNS] = {};
    T gains[COLUMNS], level_parts[COLUMNS], along_parts[COLUMNS], centers[COLUMNS];  // slopes
    for (i64 k = 0; k < width; ++k) centers[k] = this->mean[first + k / inner];
    add_columns<T>(levels, samples, width, [=](i64 r, i64 k) { return from_g[r * row + k]; });
    add_columns<T>(alongs, samples, width, [=, &centers](i64 r, i64 k) {
      return from_g[r * row + k] * (from_x[r * row + k] - centers[k]);
    });
    for (i64 c = 0; c < count; ++c) {
      const double level = of_channel(levels, c, inner), along = of_channel(alongs, c, inner);
      store_parameters(first + c, level, along * double(this->scale_of(first + c)));
      const double weight = double(this->weight_of(first + c));
      const Slope<T> slope = slope_of(first + c, T(weight), level * weight, along * weight);
      for (i64 k = c * inner; k < (c + 1) * inner; ++k) {
        gains[k] = slope.gain;
        level_parts[k] = slope.level;
        along_parts[k] = slope.along;
      }
    }
    for (i64 r = 0; r < samples; ++r) {
#pragma GCC ivdep
      for (i64 k = 0; k < width; ++k) {
        const Slope<T> slope{gains[k], level_parts[k], along_parts[k], centers[k]};
        to[r * row + k] = slope(from_g[r * row + k], from_x[r * row + k]);
      }
    }
  }

  // A statistic at a time, whose planes leave their sums for the parameters.
  void of_samples() {
    GradSums<T>* const sums = items_of<GradSums<T>>(*this);
    const Channels& layout = this->layout;
    parallel_for(layout.planes() / layout.together, rows_per_thread(layout.together * layout.plane),
                 [=, this](i64 begin, i64 end) {
      const FlushDenormals flushing;
      for (i64 s = begin; s < end; ++s) of_statistic(s, sums);
    });
    for (i64 c = 0; c < layout.channels; ++c) {
      double level = 0, along = 0;
      for (i64 n = 0; n < layout.samples; ++n) {
        const i64 p = n * layout.channels + c;
        level += double(sums[p].level);
        along += double(sums[p].along) * double(this->scale_of(layout.statistic_of(p)));
      }
      store_parameters(c, level, along);
    }
  }

  void of_statistic(i64 s, GradSums<T>* sums) const {
    const i64 first = s * this->layout.together, end = first + this->layout.together;
    double level = 0, along = 0;
    for (i64 p = first; p < end; ++p) {
      const double weight = double(this->weight_of(p % this->layout.channels));
      sums[p] = sums_of_plane(p, this->mean[s]);
      level += double(sums[p].level) * weight;
      along += double(sums[p].along) * weight;
    }
    for (i64 p = first; p < end; ++p) {
      fill_plane(p, slope_of(s, this->weight_of(p % this->layout.channels), level, along));
    }
  }
};

// --- arguments -------------------------------------------------------------------------------------------------------

// x (N, C, ...) by the shape of its statistics, (C,) or (N, G). Whether there is anything to compute.
inline bool read_channels(const Array& x, const Array& statistics, Channels& layout) {
  if (x.ndim < 2 || x.size() == 0) return false;
  layout = {x.shape[0], x.shape[1], rows_along(x, x.ndim - 2).columns, 0};
  if (statistics.ndim == 1) return statistics.shape[0] == layout.channels;
  layout.together = statistics.size() == 0 ? 0 : layout.planes() / i64(statistics.size());
  return statistics.ndim == 2 && statistics.shape[0] == layout.samples && layout.together > 0;
}

// moments((mean, var), x)
template <class T>
bool prepare_moments_of(Arguments& arguments, Tape& tape) {
  const Array *mean = arguments.array_of(0, 0), *var = arguments.array_of(0, 1), *x = arguments.array(1);
  Channels layout;
  if (!is_dense<T>(mean) || !is_dense<T>(var) || !is_dense<T>(x) || !read_channels(*x, *mean, layout)) return false;
  auto& task = tape.add<ChannelMoments<T>>(2 * x->size());
  task.mean = reinterpret_cast<T*>(mean->data);
  task.var = reinterpret_cast<T*>(var->data);
  task.x = reinterpret_cast<const T*>(x->data);
  task.stretches = layout.stretches();
  return true;
}

inline bool prepare_moments(Arguments& arguments, Tape& tape) {
  return prepare_moments_of<float>(arguments, tape) || prepare_moments_of<double>(arguments, tape);
}

// x and weight from `at` on, bias behind them in forward, and mean and var.
template <class T>
bool read_batch_norm(Arguments& arguments, i64 at, bool forward, BatchNormOperands<T>& operands) {
  const i64 statistics = at + (forward ? 3 : 2);
  const Array *x = arguments.array(at), *mean = arguments.array(statistics), *var = arguments.array(statistics + 1);
  if (!is_dense<T>(x) || !is_dense<T>(mean) || !is_dense<T>(var) || !var->has_shape_of(*mean)) return false;
  if (!read_channels(*x, *mean, operands.layout)) return false;
  if (!read_vector(arguments, at + 1, operands.layout.channels, operands.weight)) return false;
  if (forward && !read_vector(arguments, at + 2, operands.layout.channels, operands.bias)) return false;
  operands.x = reinterpret_cast<const T*>(x->data);
  operands.mean = reinterpret_cast<const T*>(mean->data);
  operands.var = reinterpret_cast<const T*>(var->data);
  operands.eps = T(arguments.number("eps"));
  return arguments.readable();
}

// batch_norm(out, x, weight, bias, mean, var, eps=)
template <class T>
bool prepare_batch_norm_of(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array(0), *x = arguments.array(1);
  BatchNormOperands<T> operands{};
  if (!is_dense<T>(out) || !read_batch_norm(arguments, 1, true, operands) || !x->has_shape_of(*out)) return false;
  auto& task = tape.add<BatchNorm<T>>(x->size());
  static_cast<BatchNormOperands<T>&>(task) = operands;
  task.out = reinterpret_cast<T*>(out->data);
  return true;
}

inline bool prepare_batch_norm(Arguments& arguments, Tape& tape) {
  return prepare_batch_norm_of<float>(arguments, tape) || prepare_batch_norm_of<double>(arguments, tape);
}

// batch_norm_grad((slope, weight's, bias's), g, x, weight, mean, var, eps=, training=)
template <class T>
bool prepare_batch_norm_grad_of(Arguments& arguments, Tape& tape) {
  const Array *out = arguments.array_of(0, 0), *g = arguments.array(1), *x = arguments.array(2);
  const Array *weight = arguments.array_of(0, 1), *bias = arguments.array_of(0, 2);
  BatchNormOperands<T> operands{};
  if (!is_dense<T>(out) || !is_dense<T>(g) || !is_dense<T>(weight) || !is_dense<T>(bias)) return false;
  if (!read_batch_norm(arguments, 2, false, operands) || !x->has_shape_of(*out) || !g->has_shape_of(*out)) return false;
  const bool training = arguments.integer("training") != 0;
  if (!arguments.readable()) return false;
  const Channels& layout = operands.layout;
  auto& task = tape.add<BatchNormGrad<T>, GradSums<T>>(2 * x->size(), layout.together == 0 ? 0 : layout.planes());
  static_cast<BatchNormOperands<T>&>(task) = operands;
  task.out = reinterpret_cast<T*>(out->data);
  task.weight_grad = reinterpret_cast<T*>(weight->data);
  task.bias_grad = reinterpret_cast<T*>(bias->data);
  task.g = reinterpret_cast<const T*>(g->data);
  task.training = training;
  return true;
}

inline bool prepare_batch_norm_grad(Arguments& arguments, Tape& tape) {
  return prepare_batch_norm_grad_of<float>(arguments, tape) || prepare_batch_norm_grad_of<double>(arguments, tape);
}

}  // namespace cpu
