// The cells of recurrent layers: all that happens at one step between two products of matrices, and its derivatives.
//
// A thread has one unit of one sequence. Arrays lie densely, those of gates as [rows][gate][hidden]. What a kernel reads
// it may write in the same place, since each thread reads all of its unit before it writes.
#include "recurrent.cuh"

using namespace recurrent;

// body(place of a unit in arrays of states, place of its first gate in arrays of `gates` gates) for all units.
template <int gates, class Body>
FN void for_units(i64 rows, i64 hidden, const Body& body) {
  const i64 unit = thread_number<i64>();
  if (unit >= hidden) return;
  for (i64 row = blockIdx.y; row < rows; row += gridDim.y) body(row * hidden + unit, row * hidden * gates + unit);
}

template <class T>
FN Compute<T> read(const void* data, i64 at) {
  return widen(static_cast<const T*>(data)[at]);
}

template <class T>
FN void write(void* data, i64 at, Compute<T> value) {
  static_cast<T*>(data)[at] = narrow<T>(value);
}

template <class T>
FN LstmGates<Compute<T>> read_lstm(const void* data, i64 at, i64 hidden) {
  return {read<T>(data, at), read<T>(data, at + hidden), read<T>(data, at + 2 * hidden), read<T>(data, at + 3 * hidden)};
}

template <class T>
FN void write_lstm(void* data, i64 at, i64 hidden, const LstmGates<Compute<T>>& gates) {
  write<T>(data, at, gates.input);
  write<T>(data, at + hidden, gates.forget);
  write<T>(data, at + 2 * hidden, gates.candidate);
  write<T>(data, at + 3 * hidden, gates.output);
}

template <class T>
FN GruGates<Compute<T>> read_gru(const void* data, i64 at, i64 hidden) {
  return {read<T>(data, at), read<T>(data, at + hidden), read<T>(data, at + 2 * hidden)};
}

template <class T>
FN void write_gru(void* data, i64 at, i64 hidden, const GruGates<Compute<T>>& gates) {
  write<T>(data, at, gates.reset);
  write<T>(data, at + hidden, gates.update);
  write<T>(data, at + 2 * hidden, gates.candidate);
}

// --- LSTM ------------------------------------------------------------------------------------------------------------

// Packed by tensorlite/backends/kernels/recurrent.py, as all of this file.
struct LstmCell {
  void* emitted;
  void* next_cell;
  void* gates;          // activated
  const void* sums;     // of the input's product
  const void* product;  // of the state
  const void* cell;
  i64 rows, hidden;
};

template <class T>
__global__ void lstm_cell(const LstmCell args) {
  for_units<4>(args.rows, args.hidden, [&](i64 at, i64 gate) {
    const auto x = read_lstm<T>(args.sums, gate, args.hidden), h = read_lstm<T>(args.product, gate, args.hidden);
    const auto gates = activated<Compute<T>>({x.input + h.input, x.forget + h.forget, x.candidate + h.candidate,
                                              x.output + h.output});
    const Compute<T> next = next_cell(gates, read<T>(args.cell, at));
    write_lstm<T>(args.gates, gate, args.hidden, gates);
    write<T>(args.next_cell, at, next);
    write<T>(args.emitted, at, emitted(gates, next));
  });
}

struct LstmCellGrad {
  void* sum_slopes;
  void* cell_slope;           // of the cell before the step
  const void* emitted_slope;
  const void* slope;          // of the next cell
  const void* gates;
  const void* cell;
  const void* next_cell;
  i64 rows, hidden;
};

template <class T>
__global__ void lstm_cell_grad(const LstmCellGrad args) {
  for_units<4>(args.rows, args.hidden, [&](i64 at, i64 gate) {
    const auto gates = read_lstm<T>(args.gates, gate, args.hidden);
    const Compute<T> next = read<T>(args.next_cell, at), from_emitted = read<T>(args.emitted_slope, at);
    const Compute<T> slope = cell_slope(gates, next, from_emitted, read<T>(args.slope, at));
    write_lstm<T>(args.sum_slopes, gate, args.hidden,
                  sum_slopes(gates, read<T>(args.cell, at), next, from_emitted, slope));
    write<T>(args.cell_slope, at, slope * gates.forget);
  });
}

// --- GRU -------------------------------------------------------------------------------------------------------------

struct GruCell {
  void* next_state;
  void* gates;          // activated
  void* kept;           // the product for the candidate, which the derivative needs
  const void* sums;     // of the input's product
  const void* product;  // of the state
  const void* state;
  i64 rows, hidden;
};

template <class T>
__global__ void gru_cell(const GruCell args) {
  for_units<3>(args.rows, args.hidden, [&](i64 at, i64 gate) {
    const auto product = read_gru<T>(args.product, gate, args.hidden);
    const auto gates = activated(read_gru<T>(args.sums, gate, args.hidden), product);
    const Compute<T> next = next_state(gates, read<T>(args.state, at));
    write_gru<T>(args.gates, gate, args.hidden, gates);
    write<T>(args.kept, at, product.candidate);
    write<T>(args.next_state, at, next);
  });
}

struct GruCellGrad {
  void* sum_slopes;      // of the input's product
  void* product_slopes;  // of the state's
  void* state_slope;     // of the state before the step, but for the way through its product
  const void* slope;     // of the next state
  const void* gates;
  const void* kept;
  const void* state;
  i64 rows, hidden;
};

template <class T>
__global__ void gru_cell_grad(const GruCellGrad args) {
  for_units<3>(args.rows, args.hidden, [&](i64 at, i64 gate) {
    const auto gates = read_gru<T>(args.gates, gate, args.hidden);
    const Compute<T> slope = read<T>(args.slope, at);
    auto slopes = sum_slopes(gates, read<T>(args.state, at), read<T>(args.kept, at), slope);
    write_gru<T>(args.sum_slopes, gate, args.hidden, slopes);
    slopes.candidate *= gates.reset;
    write_gru<T>(args.product_slopes, gate, args.hidden, slopes);
    write<T>(args.state_slope, at, slope * gates.update);
  });
}
