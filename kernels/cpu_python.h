// What the compiled kernels of device "cpu" use of Python's stable interface and of NumPy's arrays.
//
// Both are declared here, since Python's headers may be missing where a compiler is found. The functions belong to
// Python's stable ABI; the fields of an array are what the macros of NumPy's C interface have compiled into every
// extension. tensorlite/backends/cpu_compiled.py compares them with a known array before any kernel runs.
#pragma once
#include <stddef.h>
#include <string.h>

#include "common.cuh"

extern "C" {
struct PyObject {
  ptrdiff_t references;
  PyObject* type;
};
struct PyMethodDef {
  const char* name;
  PyObject* (*function)(PyObject* self, PyObject* const* values, ptrdiff_t count, PyObject* names);
  int flags;
  const char* documentation;
};
extern PyObject _Py_NoneStruct, _Py_TrueStruct, _Py_FalseStruct, PyFloat_Type, PyLong_Type, PyBool_Type, PyTuple_Type;
void Py_IncRef(PyObject*);
PyObject* PyBool_FromLong(long);
PyObject* PyLong_FromLongLong(long long);
long long PyLong_AsLongLong(PyObject*);
double PyFloat_AsDouble(PyObject*);
PyObject* PyErr_Occurred();
void PyErr_Clear();
ptrdiff_t PyTuple_Size(PyObject*);
PyObject* PyTuple_GetItem(PyObject*, ptrdiff_t);
const char* PyUnicode_AsUTF8AndSize(PyObject*, ptrdiff_t*);
PyObject* PyBytes_FromStringAndSize(const char*, ptrdiff_t);
int PyBytes_AsStringAndSize(PyObject*, char**, ptrdiff_t*);
PyObject* PyDict_New();
int PyDict_SetItemString(PyObject*, const char*, PyObject*);
PyObject* PyCFunction_NewEx(PyMethodDef*, PyObject* self, PyObject* module);
void* PyEval_SaveThread();
void PyEval_RestoreThread(void*);
}

namespace cpu {

constexpr int FASTCALL_WITH_KEYWORDS = 0x0080 | 0x0002;  // METH_FASTCALL | METH_KEYWORDS

// --- arrays ----------------------------------------------------------------------------------------------------------

struct Array {  // PyArrayObject_fields
  PyObject head;
  char* data;
  int ndim;
  const ptrdiff_t* shape;
  const ptrdiff_t* strides;
  PyObject* base;
  PyObject* dtype;
  int flags;

  bool is_row_major() const { return flags & 1; }
  bool is_column_major() const { return flags & 2; }
  bool is_aligned() const { return flags & 0x100; }
  bool is_writable() const { return flags & 0x400; }
  i64 size() const {
    i64 product = 1;
    for (int k = 0; k < ndim; ++k) product *= shape[k];
    return product;
  }
  bool has_shape_of(const Array& other) const {
    if (ndim != other.ndim) return false;
    for (int k = 0; k < ndim; ++k) {
      if (shape[k] != other.shape[k]) return false;
    }
    return true;
  }
};

// The type of arrays and the dtypes that kernels take, as tensorlite/backends/cpu_compiled.py hands them over.
struct Types {
  PyObject *array, *float32, *float64, *int64, *uint64, *boolean;
};
inline Types types;

template <class T>
PyObject* dtype_of();
template <>
inline PyObject* dtype_of<float>() { return types.float32; }
template <>
inline PyObject* dtype_of<double>() { return types.float64; }
template <>
inline PyObject* dtype_of<i64>() { return types.int64; }
template <>
inline PyObject* dtype_of<u64>() { return types.uint64; }
template <>
inline PyObject* dtype_of<bool>() { return types.boolean; }

template <class T>
bool holds(const Array* array) {
  return array != nullptr && array->dtype == dtype_of<T>() && array->is_aligned();
}

template <class T>
bool is_dense(const Array* array) {
  return holds<T>(array) && array->is_row_major();
}

inline bool is_none(PyObject* value) { return value == &_Py_NoneStruct; }

inline const Array* as_array(PyObject* value) {
  return value->type == types.array ? reinterpret_cast<const Array*>(value) : nullptr;
}

// --- the arguments of a call -----------------------------------------------------------------------------------------

// kernel(out, *args, **options). What is read and is not there, or not of that kind, makes the call unreadable.
class Arguments {
 public:
  Arguments(PyObject* const* values, i64 count, PyObject* names) : values_(values), count_(count), names_(names) {}

  i64 count() const { return count_; }
  bool readable() const { return readable_; }
  PyObject* operator[](i64 at) { return at < count_ ? values_[at] : missing(); }
  const Array* array(i64 at) { return as_array((*this)[at]); }
  // An array of a tuple of arrays.
  const Array* array_of(i64 at, i64 place) {
    PyObject* tuple = (*this)[at];
    if (tuple->type != &PyTuple_Type || place >= PyTuple_Size(tuple)) return nullptr;
    return as_array(PyTuple_GetItem(tuple, place));
  }

  // A Python number. One that the element type does not hold is left to NumPy, which refuses it.
  double number(PyObject* value) {
    if (value->type != &PyFloat_Type && value->type != &PyLong_Type && value->type != &PyBool_Type) return unreadable();
    const double result = PyFloat_AsDouble(value);
    return PyErr_Occurred() ? (PyErr_Clear(), unreadable()) : result;
  }
  double number(const char* option) { return number(value_of(option)); }
  i64 integer(const char* option) {
    PyObject* value = value_of(option);
    if (value->type != &PyLong_Type && value->type != &PyBool_Type) return i64(unreadable());
    const i64 result = PyLong_AsLongLong(value);
    return PyErr_Occurred() ? (PyErr_Clear(), i64(unreadable())) : result;
  }
  // An option that is a tuple of two integers.
  void pair(const char* option, i64 (&values)[2]) {
    PyObject* tuple = value_of(option);
    if (length(tuple) != 2) return void(unreadable());
    for (int k = 0; k < 2; ++k) values[k] = PyLong_AsLongLong(PyTuple_GetItem(tuple, k));
  }
  // The value of an option; None where it is not given.
  PyObject* optional(const char* option) {
    const i64 count = names_ == nullptr ? 0 : PyTuple_Size(names_);
    for (i64 k = 0; k < count; ++k) {
      const char* name = PyUnicode_AsUTF8AndSize(PyTuple_GetItem(names_, k), nullptr);
      if (name != nullptr && strcmp(name, option) == 0) return values_[count_ + k];
    }
    return &_Py_NoneStruct;
  }
  // How many dimensions an option lists, where they are the last ones of an array, or the first ones; else 0.
  int trailing_dims(const char* option, const Array& array) {
    PyObject* dims = value_of(option);
    return listed_from(dims, array.ndim - length(dims));
  }
  int leading_dims(const char* option) { return listed_from(value_of(option), 0); }
  // Whether an option lists all dimensions of an array but one.
  bool all_dims_but(int kept, const char* option, const Array& array) {
    PyObject* dims = value_of(option);
    if (length(dims) != array.ndim - 1) return false;
    for (int k = 0; k < array.ndim - 1; ++k) {
      if (PyLong_AsLongLong(PyTuple_GetItem(dims, k)) != k + (k >= kept)) return false;
    }
    return true;
  }

 private:
  PyObject* value_of(const char* option) {
    PyObject* value = optional(option);
    return is_none(value) ? missing() : value;
  }
  static int length(PyObject* dims) { return dims->type == &PyTuple_Type ? int(PyTuple_Size(dims)) : 0; }
  static int listed_from(PyObject* dims, int first) {
    const int count = length(dims);
    for (int k = 0; k < count; ++k) {
      if (PyLong_AsLongLong(PyTuple_GetItem(dims, k)) != first + k) return 0;
    }
    return count;
  }
  PyObject* missing() {
    readable_ = false;
    return &_Py_NoneStruct;
  }
  double unreadable() {
    readable_ = false;
    return 0;
  }

  PyObject* const* values_;
  i64 count_;
  PyObject* names_;
  bool readable_ = true;
};

// Lets other Python threads run while it lives.
class WithoutInterpreter {
 public:
  explicit WithoutInterpreter(bool wanted) : state_(wanted ? PyEval_SaveThread() : nullptr) {}
  ~WithoutInterpreter() {
    if (state_ != nullptr) PyEval_RestoreThread(state_);
  }

 private:
  void* state_;
};

}  // namespace cpu
