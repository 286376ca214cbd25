// What a recurrent cell computes of one unit at one step, and its derivatives: formulas that the GPU's kernels and the
// CPU's compiled ones share. No indices.
#pragma once
#include "formulas.cuh"

namespace recurrent {

// --- LSTM: Hochreiter and Schmidhuber 1997, with the forget gate of Gers et al. 2000 ---------------------------------

// The gates, activated: input, forget, candidate, output.
template <class C>
struct LstmGates {
  C input, forget, candidate, output;
};

template <class C>
FN LstmGates<C> activated(const LstmGates<C>& sums) {
  return {formulas::sigmoid{}(sums.input), formulas::sigmoid{}(sums.forget), C(::tanh(sums.candidate)),
          formulas::sigmoid{}(sums.output)};
}

template <class C>
FN C next_cell(const LstmGates<C>& gates, C cell) {
  return gates.forget * cell + gates.input * gates.candidate;
}

template <class C>
FN C emitted(const LstmGates<C>& gates, C next_cell) {
  return gates.output * C(::tanh(next_cell));
}

// The gradient that reaches the next cell: its own, and that of what the unit emits.
template <class C>
FN C cell_slope(const LstmGates<C>& gates, C next_cell, C emitted_slope, C slope) {
  const C bent = C(::tanh(next_cell));
  return slope + emitted_slope * gates.output * (C(1) - bent * bent);
}

// The gradients of the gates' sums, from those of what is emitted and of the next cell.
template <class C>
FN LstmGates<C> sum_slopes(const LstmGates<C>& gates, C cell, C next_cell, C emitted_slope, C cell_slope) {
  const formulas::sigmoid_grad through_sigmoid;
  return {through_sigmoid(cell_slope * gates.candidate, gates.input),
          through_sigmoid(cell_slope * cell, gates.forget),
          formulas::tanh_grad{}(cell_slope * gates.input, gates.candidate),
          through_sigmoid(emitted_slope * C(::tanh(next_cell)), gates.output)};
}

// --- GRU: Cho et al. 2014, with the reset gate behind the product ----------------------------------------------------

// The gates, activated: reset, update, candidate.
template <class C>
struct GruGates {
  C reset, update, candidate;
};

// From the sums of the input's and of the state's products.
template <class C>
FN GruGates<C> activated(const GruGates<C>& input, const GruGates<C>& state) {
  const C reset = formulas::sigmoid{}(input.reset + state.reset);
  return {reset, formulas::sigmoid{}(input.update + state.update),
          C(::tanh(input.candidate + reset * state.candidate))};
}

template <class C>
FN C next_state(const GruGates<C>& gates, C state) {
  return gates.candidate + gates.update * (state - gates.candidate);
}

// The gradients of the input's products, from that of the next state; `product` is the state's for the candidate.
template <class C>
FN GruGates<C> sum_slopes(const GruGates<C>& gates, C state, C product, C slope) {
  const formulas::sigmoid_grad through_sigmoid;
  const C candidate = formulas::tanh_grad{}(slope * (C(1) - gates.update), gates.candidate);
  return {through_sigmoid(candidate * product, gates.reset),
          through_sigmoid(slope * (state - gates.candidate), gates.update), candidate};
}

}  // namespace recurrent
