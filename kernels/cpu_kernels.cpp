// The compiled kernels of device "cpu": their table, and how Python calls them.
//
// Contract. `tensorlite_cpu_kernels` is called once, by tensorlite/backends/cpu_compiled.py, and gives a dict:
//   "run"      {kernel name: function(out, *args, **options)}, which computes and returns True, or returns False where
//              the call is NumPy's: for its dtypes or layout, or for an error in the data, which NumPy's kernel raises
//   "pack"     {kernel name: function(out, *args, **options)}, which gives the call's task as bytes, or None
//   "replay"   function(tasks, start) that runs joined tasks from a byte on and returns where one refused its data, or
//              their length
//   "flush"    function(bool) that makes the calling thread flush denormal numbers or not: whether it can
#include "cpu_math.h"

#include "cpu_attention.h"
#include "cpu_conv.h"
#include "cpu_layer_norm.h"
#include "cpu_matmul.h"
#include "cpu_norm.h"
#include "cpu_optimizer.h"
#include "cpu_pool.h"
#include "cpu_random.h"
#include "cpu_recurrent.h"
#include "cpu_softmax.h"

namespace {

using namespace cpu;

using Prepare = bool (*)(Arguments&, Tape&);

thread_local Tape tape;

PyObject* new_reference(PyObject* object) {
  Py_IncRef(object);
  return object;
}

// Reads a call into the thread's tape. An `out` that may not be written is left to NumPy, which says so.
template <Prepare prepare>
bool read(PyObject* const* values, ptrdiff_t count, PyObject* names) {
  Arguments arguments(values, count, names);
  const Array* out = arguments.array(0);
  tape.shorten(0);
  return (out == nullptr || out->is_writable()) && prepare(arguments, tape);
}

PyObject* run(char* begin, i64 size) {
  char* const end = begin + size;
  const WithoutInterpreter released(work_of(begin, end) > WORK_WITHOUT_INTERPRETER);
  return run_tasks(begin, end) == end ? &_Py_TrueStruct : &_Py_FalseStruct;
}

template <Prepare prepare>
PyObject* call(PyObject*, PyObject* const* values, ptrdiff_t count, PyObject* names) {
  if (!read<prepare>(values, count, names)) return new_reference(&_Py_FalseStruct);
  return new_reference(run(tape.begin(), tape.size()));
}

template <Prepare prepare>
PyObject* pack(PyObject*, PyObject* const* values, ptrdiff_t count, PyObject* names) {
  if (!read<prepare>(values, count, names)) return new_reference(&_Py_NoneStruct);
  return PyBytes_FromStringAndSize(tape.begin(), tape.size());
}

// Tasks change nothing in themselves but scratch, so the bytes may be run in place.
PyObject* replay(PyObject*, PyObject* const* values, ptrdiff_t, PyObject*) {
  char* begin;
  ptrdiff_t size;
  if (PyBytes_AsStringAndSize(values[0], &begin, &size) != 0) return nullptr;
  char *const end = begin + size, *at = begin + PyLong_AsLongLong(values[1]);
  {
    const WithoutInterpreter released(work_of(at, end) > WORK_WITHOUT_INTERPRETER);
    at = run_tasks(at, end);
  }
  return PyLong_FromLongLong(at - begin);
}

PyObject* flush(PyObject*, PyObject* const* values, ptrdiff_t, PyObject*) {
  const ControlWord word = control_word();
  set_control_word(values[0] == &_Py_TrueStruct ? word | FLUSH_BITS : word & ~FLUSH_BITS);
  return PyBool_FromLong(CAN_FLUSH);
}

// --- the table -------------------------------------------------------------------------------------------------------

struct Kernel {
  PyMethodDef run, pack;
};

template <Prepare prepare>
Kernel kernel(const char* name) {
  return {{name, call<prepare>, FASTCALL_WITH_KEYWORDS, nullptr},
          {name, pack<prepare>, FASTCALL_WITH_KEYWORDS, nullptr}};
}

template <class Formula, int arrays, int numbers = 0>
Kernel elementwise(const char* name) {
  return kernel<prepare_elementwise<Formula, arrays, numbers, Denormals::kept>>(name);
}

// Gradients are where denormal numbers come in crowds: of units that have died, of batches that are known by heart.
template <class Formula, int numbers = 0>
Kernel derivative(const char* name) {
  return kernel<prepare_elementwise<Formula, 2, numbers, Denormals::flushed>>(name);
}

template <Rows rows, template <class, Rows> class Task, LayerNormKind kind>
Kernel layer_norm(const char* name) {
  return kernel<prepare_layer_norm<Task, rows, kind>>(name);
}

namespace f = formulas;

Kernel kernels[] = {
    // copying and plain arithmetic
    kernel<prepare_copy>("copy"), kernel<prepare_gather>("index"),
    kernel<prepare_scatter_add>("index_add"), elementwise<Fill, 0, 1>("fill"),
    kernel<prepare_binary<f::add>>("add"), kernel<prepare_binary<f::sub>>("sub"),
    kernel<prepare_binary<f::mul>>("mul"), kernel<prepare_binary<f::div>>("div"),
    elementwise<f::neg, 1>("neg"), elementwise<f::square, 1>("square"),
    // activations and their derivatives; tanh is NumPy's, which is faster
    elementwise<f::relu, 1>("relu"), elementwise<f::relu_grad, 2>("relu_grad"),
    elementwise<f::sigmoid, 1>("sigmoid"), derivative<f::sigmoid_grad>("sigmoid_grad"),
    derivative<f::tanh_grad>("tanh_grad"),
    elementwise<f::leaky_relu, 1, 1>("leaky_relu"), derivative<f::leaky_relu_grad, 1>("leaky_relu_grad"),
    elementwise<f::elu, 1, 1>("elu"), derivative<f::elu_grad, 1>("elu_grad"),
    elementwise<f::silu, 1>("silu"), derivative<f::silu_grad>("silu_grad"),
    elementwise<f::gelu, 1>("gelu"), derivative<f::gelu_grad>("gelu_grad"),
    elementwise<f::gelu_tanh, 1>("gelu_tanh"), derivative<f::gelu_tanh_grad>("gelu_tanh_grad"),
    elementwise<f::softplus, 1, 2>("softplus"), derivative<f::softplus_grad, 2>("softplus_grad"),
    elementwise<f::softsign, 1>("softsign"),
    // matrices and rows
    kernel<prepare_matmul>("matmul"), kernel<prepare_linear<Then::nothing, Then::bias>>("linear"),
    kernel<prepare_linear<Then::relu, Then::bias_relu>>("linear_relu"),
    kernel<prepare_relu_bias_grad>("relu_bias_grad"), kernel<prepare_sum>("sum"),
    kernel<prepare_rows<Softmax, 1>>("softmax"), kernel<prepare_rows<SoftmaxGrad, 2>>("softmax_grad"),
    kernel<prepare_rows<LogSoftmax, 1>>("log_softmax"), kernel<prepare_rows<LogSoftmaxGrad, 2>>("log_softmax_grad"),
    kernel<prepare_cross_entropy>("cross_entropy"), kernel<prepare_cross_entropy_grad>("cross_entropy_grad"),
    // convolutions
    kernel<prepare_convolution<ConvForward, ConvKind::forward>>("conv2d"),
    kernel<prepare_convolution<ConvInputGrad, ConvKind::input_grad>>("conv2d_input_grad"),
    kernel<prepare_convolution<ConvWeightGrad, ConvKind::weight_grad>>("conv2d_weight_grad"),
    // pooling
    kernel<prepare_max_pool<MaxPool, PoolKind::forward>>("max_pool2d"),
    kernel<prepare_max_pool<MaxPoolGrad, PoolKind::grad_with_x>>("max_pool2d_grad"),
    kernel<prepare_max_pool<MaxPoolPick, PoolKind::pick>>("max_pool2d_pick"),
    kernel<prepare_max_pool_indices>("max_pool2d_indices"),
    kernel<prepare_avg_pool<AvgPool, PoolKind::forward>>("avg_pool2d"),
    kernel<prepare_avg_pool<AvgPoolGrad, PoolKind::grad>>("avg_pool2d_grad"),
    layer_norm<Rows::centered, LayerNorm, LayerNormKind::forward>("layer_norm"),
    layer_norm<Rows::centered, LayerNormGrad, LayerNormKind::grad>("layer_norm_grad"),
    layer_norm<Rows::centered, LayerNormWeightGrad, LayerNormKind::weight_grad>("layer_norm_weight_grad"),
    layer_norm<Rows::as_they_are, LayerNorm, LayerNormKind::forward>("rms_norm"),
    layer_norm<Rows::as_they_are, LayerNormGrad, LayerNormKind::grad>("rms_norm_grad"),
    layer_norm<Rows::as_they_are, LayerNormWeightGrad, LayerNormKind::weight_grad>("rms_norm_weight_grad"),
    kernel<prepare_moments>("moments"), kernel<prepare_batch_norm>("batch_norm"),
    kernel<prepare_batch_norm_grad>("batch_norm_grad"),
    // attention
    kernel<prepare_attention>("attention"), kernel<prepare_attention_grad>("attention_grad"),
    // recurrent layers
    kernel<prepare_cell<LstmCell>>("lstm_cell"), kernel<prepare_cell<LstmCellGrad>>("lstm_cell_grad"),
    kernel<prepare_cell<GruCell>>("gru_cell"), kernel<prepare_cell<GruCellGrad>>("gru_cell_grad"),
    // dropout
    kernel<prepare_dropout_noise>("dropout_noise"), kernel<prepare_dropout>("dropout"),
    // optimizers
    kernel<prepare_update<updates::SGD>>("sgd_step"), kernel<prepare_update<updates::Adam>>("adam_step"),
    kernel<prepare_update<updates::RMSprop>>("rmsprop_step"), kernel<prepare_update<updates::Adagrad>>("adagrad_step"),
    kernel<prepare_update<updates::Adadelta>>("adadelta_step"), kernel<prepare_update<updates::Adamax>>("adamax_step"),
    kernel<prepare_update<updates::NAdam>>("nadam_step"), kernel<prepare_update<updates::RAdam>>("radam_step"),
    kernel<prepare_update<updates::Rprop>>("rprop_step"), kernel<prepare_update<updates::ASGD>>("asgd_step"),
    kernel<prepare_update<updates::Lion>>("lion_step"),
};

PyMethodDef replay_definition = {"replay", replay, FASTCALL_WITH_KEYWORDS, nullptr};
PyMethodDef flush_definition = {"flush", flush, FASTCALL_WITH_KEYWORDS, nullptr};

PyObject* function(PyMethodDef& definition) { return PyCFunction_NewEx(&definition, nullptr, nullptr); }

PyObject* table(PyMethodDef Kernel::* which) {
  PyObject* result = PyDict_New();
  for (Kernel& entry : kernels) PyDict_SetItemString(result, entry.run.name, function(entry.*which));
  return result;
}

}  // namespace

// What Python knows and the kernels need; mirrored by `_Setup` of tensorlite/backends/cpu_compiled.py.
struct Setup {
  Types types;
  void *sgemm, *dgemm;
  i64 blas_is_wide;
  i64 threads;
};

extern "C" __attribute__((visibility("default"))) PyObject* tensorlite_cpu_kernels(const Setup* setup) {
  types = setup->types;
  blas = {setup->sgemm, setup->dgemm, setup->blas_is_wide != 0};
  pool.set_threads(int(setup->threads));
  pthread_atfork(nullptr, nullptr, [] { pool.forget_workers(); });
  PyObject* result = PyDict_New();
  PyDict_SetItemString(result, "run", table(&Kernel::run));
  PyDict_SetItemString(result, "pack", table(&Kernel::pack));
  PyDict_SetItemString(result, "replay", function(replay_definition));
  PyDict_SetItemString(result, "flush", function(flush_definition));
  return result;
}

// What the loader compares with a known array: the fields as they are read here.
extern "C" __attribute__((visibility("default"))) i64 tensorlite_cpu_check(PyObject* array, PyObject* data) {
  const Array* read = as_array(array);
  return read != nullptr && read->ndim == 2 && read->shape[0] == 2 && read->shape[1] == 3 &&
         read->strides[0] == 4 * 3 && read->is_row_major() && !read->is_column_major() && read->is_aligned() &&
         holds<float>(read) && i64(read->data) == PyLong_AsLongLong(data);
}
