// The cells of recurrent layers on device "cpu": a row is one sequence's units, gates lie side by side in it.
#pragma once
#include "cpu_rows.h"
#include "recurrent.cuh"

namespace cpu {

// A unit costs several exponentials: so many of them are worth a thread.
constexpr i64 UNITS_PER_THREAD = 1 << 12;

template <class T>
recurrent::LstmGates<T> lstm_gates(const T* row, i64 unit, i64 hidden) {
  return {row[unit], row[unit + hidden], row[unit + 2 * hidden], row[unit + 3 * hidden]};
}

template <class T>
void put_gates(T* row, i64 unit, i64 hidden, const recurrent::LstmGates<T>& gates) {
  row[unit] = gates.input;
  row[unit + hidden] = gates.forget;
  row[unit + 2 * hidden] = gates.candidate;
  row[unit + 3 * hidden] = gates.output;
}

template <class T>
recurrent::GruGates<T> gru_gates(const T* row, i64 unit, i64 hidden) {
  return {row[unit], row[unit + hidden], row[unit + 2 * hidden]};
}

template <class T>
void put_gates(T* row, i64 unit, i64 hidden, const recurrent::GruGates<T>& gates) {
  row[unit] = gates.reset;
  row[unit + hidden] = gates.update;
  row[unit + 2 * hidden] = gates.candidate;
}

// Arrays of a call in the order of its arguments: those of `out` first.
template <class T, int arrays>
struct CellTask : Task {
  T* array[arrays];
  Matrix matrix;  // of the states

  // body(arrays at the row, hidden) for all rows; `gates[k]` is how many gates lie side by side in array k.
  template <class Body>
  void for_rows(const int (&gates)[arrays], const Body& body) const {
    const i64 hidden = matrix.columns;
    parallel_for(matrix.rows, UNITS_PER_THREAD / (hidden + 1) + 1, [&](i64 begin, i64 end) {
      const FlushDenormals flushing;
      for (i64 r = begin; r < end; ++r) {
        T* row[arrays];
        for (int k = 0; k < arrays; ++k) row[k] = array[k] + r * hidden * gates[k];
        body(row, hidden);
      }
    });
  }
};

template <class T>
struct LstmCell : CellTask<T, 6> {
  static constexpr int RESULTS = 3, ARRAYS = 6;
  static constexpr int GATES[ARRAYS] = {1, 1, 4, 4, 4, 1};

  bool operator()() {
    this->for_rows(GATES, [](T* const* row, i64 hidden) {
      T *const emitted = row[0], *const next = row[1], *const gates = row[2];
      const T *const sums = row[3], *const product = row[4], *const cell = row[5];
#pragma GCC ivdep
      for (i64 k = 0; k < hidden; ++k) {
        const auto x = lstm_gates(sums, k, hidden), h = lstm_gates(product, k, hidden);
        const auto active = recurrent::activated<T>({x.input + h.input, x.forget + h.forget,
                                                     x.candidate + h.candidate, x.output + h.output});
        const T following = recurrent::next_cell(active, cell[k]);
        put_gates(gates, k, hidden, active);
        next[k] = following;
        emitted[k] = recurrent::emitted(active, following);
      }
    });
    return true;
  }
};

template <class T>
struct LstmCellGrad : CellTask<T, 7> {
  static constexpr int RESULTS = 2, ARRAYS = 7;
  static constexpr int GATES[ARRAYS] = {4, 1, 1, 1, 4, 1, 1};

  bool operator()() {
    this->for_rows(GATES, [](T* const* row, i64 hidden) {
      T *const sum_slopes = row[0], *const cell_slope = row[1];
      const T *const emitted_slope = row[2], *const slope = row[3], *const gates = row[4], *const cell = row[5];
      const T* const next = row[6];
#pragma GCC ivdep
      for (i64 k = 0; k < hidden; ++k) {
        const auto active = lstm_gates(gates, k, hidden);
        const T total = recurrent::cell_slope(active, next[k], emitted_slope[k], slope[k]);
        put_gates(sum_slopes, k, hidden, recurrent::sum_slopes(active, cell[k], next[k], emitted_slope[k], total));
        cell_slope[k] = total * active.forget;
      }
    });
    return true;
  }
};

template <class T>
struct GruCell : CellTask<T, 6> {
  static constexpr int RESULTS = 3, ARRAYS = 6;
  static constexpr int GATES[ARRAYS] = {1, 3, 1, 3, 3, 1};

  bool operator()() {
    this->for_rows(GATES, [](T* const* row, i64 hidden) {
      T *const next = row[0], *const gates = row[1], *const kept = row[2];
      const T *const sums = row[3], *const product = row[4], *const state = row[5];
#pragma GCC ivdep
      for (i64 k = 0; k < hidden; ++k) {
        const auto h = gru_gates(product, k, hidden);
        const auto active = recurrent::activated(gru_gates(sums, k, hidden), h);
        put_gates(gates, k, hidden, active);
        kept[k] = h.candidate;
        next[k] = recurrent::next_state(active, state[k]);
      }
    });
    return true;
  }
};

template <class T>
struct GruCellGrad : CellTask<T, 7> {
  static constexpr int RESULTS = 3, ARRAYS = 7;
  static constexpr int GATES[ARRAYS] = {3, 3, 1, 1, 3, 1, 1};

  bool operator()() {
    this->for_rows(GATES, [](T* const* row, i64 hidden) {
      T *const sum_slopes = row[0], *const product_slopes = row[1], *const state_slope = row[2];
      const T *const slope = row[3], *const gates = row[4], *const kept = row[5], *const state = row[6];
#pragma GCC ivdep
      for (i64 k = 0; k < hidden; ++k) {
        const auto active = gru_gates(gates, k, hidden);
        const T incoming = slope[k];
        auto slopes = recurrent::sum_slopes(active, state[k], kept[k], incoming);
        put_gates(sum_slopes, k, hidden, slopes);
        slopes.candidate *= active.reset;
        put_gates(product_slopes, k, hidden, slopes);
        state_slope[k] = incoming * active.update;
      }
    });
    return true;
  }
};

// --- arguments -------------------------------------------------------------------------------------------------------

// kernel(out, *args) with `out` a tuple; the last argument is an array of states.
template <class Kernel, class T>
bool prepare_cell_of(Arguments& arguments, Tape& tape) {
  const Array* states = arguments.array(Kernel::ARRAYS - Kernel::RESULTS);
  if (!holds<T>(states) || states->ndim != 2) return false;
  const Matrix matrix{states->shape[0], states->shape[1]};
  T* found[Kernel::ARRAYS];
  for (int k = 0; k < Kernel::ARRAYS; ++k) {
    const bool is_result = k < Kernel::RESULTS;
    const Array* array = is_result ? arguments.array_of(0, k) : arguments.array(k - Kernel::RESULTS + 1);
    if (!is_dense<T>(array) || array->size() != matrix.rows * matrix.columns * Kernel::GATES[k]) return false;
    if (is_result && !array->is_writable()) return false;
    found[k] = reinterpret_cast<T*>(array->data);
  }
  auto& task = tape.add<Kernel>(8 * matrix.rows * matrix.columns);
  for (int k = 0; k < Kernel::ARRAYS; ++k) task.array[k] = found[k];
  task.matrix = matrix;
  return true;
}

template <template <class> class Kernel>
bool prepare_cell(Arguments& arguments, Tape& tape) {
  return prepare_cell_of<Kernel<float>, float>(arguments, tape) ||
         prepare_cell_of<Kernel<double>, double>(arguments, tape);
}

}  // namespace cpu
