// A stand-in for NVIDIA's driver library and CUDA's runtime: device memory is host memory, and a launch calls back into
// Python, which runs the same kernel in the simulator. Streams are in streams.cpp.
//
// Strict where a real driver is, so that tests find what would fail there: a launch needs a context in its thread, and
// the device on which its module was loaded; memory is limited; an unknown runtime call is an error.
//
// Functions cu* are the driver's own names. Functions fake_cuda* take the place of the runtime's cuda*, which CuPy links
// statically: `fake_redirect` writes a jump over those.
#include "driver.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <string>

thread_local int current_device = 0;
thread_local bool has_context = false;
void* last_stream = nullptr;

namespace {

using Launcher = int (*)(void* function, const unsigned* grid_and_block, unsigned shared, const void* arguments);
using Sizer = size_t (*)(void* function);  // bytes of a kernel's arguments

struct Function {
  int device;
  unsigned shared_allowed;  // bytes of dynamic shared memory
};

struct Block {
  size_t size;
  int device;  // -1: pinned host memory
};

std::mutex mutex;
std::map<uintptr_t, Block> allocated;  // by first address
size_t used[16];
int devices = 2;
size_t capacity = size_t(8) << 30;  // of each device
int capability = 90;
Launcher launcher = nullptr;
Sizer sizer = nullptr;
unsigned long long launches = 0;

int allocate(void** address, size_t size, int device) {
  std::lock_guard<std::mutex> lock(mutex);
  if (device >= 0 && used[device] + size > capacity) return out_of_memory;
  *address = aligned_alloc(512, (size + 511) / 512 * 512);
  if (*address == nullptr) return out_of_memory;
  memset(*address, 0xff, size);  // NaN: what a kernel does not write shows
  allocated[uintptr_t(*address)] = {size, device};
  if (device >= 0) used[device] += size;
  return success;
}

int release(void* address) {
  if (address == nullptr) return success;
  std::lock_guard<std::mutex> lock(mutex);
  const auto found = allocated.find(uintptr_t(address));
  if (found == allocated.end()) return invalid_value;
  if (found->second.device >= 0) used[found->second.device] -= found->second.size;
  allocated.erase(found);
  free(address);
  return success;
}

}  // namespace

extern "C" {

// --- for the tests ---------------------------------------------------------------------------------------------------

void fake_configure(int count, size_t bytes, int major_minor) {
  devices = count;
  capacity = bytes;
  capability = major_minor;
}

void fake_on_launch(Launcher callback) { launcher = callback; }

void fake_on_sizing(Sizer callback) { sizer = callback; }

unsigned long long fake_launches() { return launches; }

void* fake_last_stream() { return last_stream; }

// Makes the function at `address` jump to `target`.
int fake_redirect(uintptr_t address, uintptr_t target) {
  const uintptr_t page = address & ~uintptr_t(getpagesize() - 1);
  if (mprotect(reinterpret_cast<void*>(page), 2 * getpagesize(), PROT_READ | PROT_WRITE | PROT_EXEC)) return 1;
  const unsigned char jump[] = {0xff, 0x25, 0, 0, 0, 0};  // jmp *[rip + 0]
  memcpy(reinterpret_cast<void*>(address), jump, sizeof jump);
  memcpy(reinterpret_cast<void*>(address + sizeof jump), &target, sizeof target);
  return 0;
}

int fake_unsupported() { return not_supported; }

// --- the driver ------------------------------------------------------------------------------------------------------

int cuInit(unsigned) { return 100; }  // NVRTC asks: there is no device for it to ask about
int cuGetExportTable(const void** table, const void*) {
  *table = nullptr;
  return not_found;
}
int cuDriverGetVersion(int* version) {
  *version = 12090;
  return success;
}
int cuGetErrorName(int, const char** text) {
  *text = "FAKE_CUDA_ERROR";
  return success;
}
int cuGetErrorString(int status, const char** text) {
  static thread_local char message[64];
  snprintf(message, sizeof message, "status %d of the stand-in driver", status);
  *text = message;
  return success;
}

int cuCtxGetCurrent(void** context) {
  *context = reinterpret_cast<void*>(uintptr_t(has_context));
  return success;
}
int cuCtxSetCurrent(void*) { return success; }
int cuDevicePrimaryCtxRelease(int) { return success; }

int cuModuleLoadData(void** module, const void*) {
  if (!has_context) return invalid_context;
  *module = new int(current_device);
  return success;
}
int cuModuleUnload(void* module) {
  delete static_cast<int*>(module);
  return success;
}
int cuModuleGetFunction(void** function, void* module, const char*) {
  *function = new Function{*static_cast<int*>(module), 48 << 10};
  return success;
}
int cuFuncGetAttribute(int* value, int, void*) {
  *value = 0;
  return success;
}
int cuFuncSetAttribute(void* function, int attribute, int value) {
  if (attribute != 8) return not_supported;  // CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
  if (value > 227 << 10) return invalid_value;
  static_cast<Function*>(function)->shared_allowed = value;
  return success;
}

int cuLaunchKernel(void* function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by, unsigned bz,
                   unsigned shared, void* stream, void** arguments, void**) {
  if (!has_context) return invalid_context;
  const auto* known = static_cast<const Function*>(function);
  if (known->device != current_device) return invalid_handle;
  if (shared > known->shared_allowed) return invalid_value;
  if (gx == 0 || gy == 0 || gz == 0 || gy > 65535 || gz > 65535 || bx * by * bz == 0 || bx * by * bz > 1024) {
    return invalid_value;
  }
  last_stream = stream;
  const auto run = [=](const void* packed) {
    ++launches;
    if (launcher == nullptr) return int(success);
    const unsigned grid_and_block[6] = {gx, gy, gz, bx, by, bz};
    return launcher(function, grid_and_block, shared, packed);
  };
  if (!is_capturing(stream)) return submit(stream, [&] { return run(arguments[0]); });
  const std::string copied(static_cast<const char*>(arguments[0]), sizer(function));  // the caller's buffer will change
  return submit(stream, [=] { return run(copied.data()); });
}

// --- the runtime: devices --------------------------------------------------------------------------------------------

int fake_cudaGetDeviceCount(int* count) {
  *count = devices;
  return success;
}
int fake_cudaGetDevice(int* device) {
  *device = current_device;
  return success;
}
int fake_cudaSetDevice(int device) {
  if (device < 0 || device >= devices) return invalid_device;
  current_device = device;
  has_context = true;
  return success;
}
int fake_cudaDeviceGetAttribute(int* value, int attribute, int) {
  switch (attribute) {
    case 1: *value = 1024; break;  // threads of a block
    case 10: *value = 32; break;  // warp size
    case 16: *value = 4; break;  // multiprocessors
    case 75: *value = capability / 10; break;
    case 76: *value = capability % 10; break;
    default: *value = 0;
  }
  return success;
}
int fake_cudaGetDeviceProperties(void* properties, int) {
  memset(properties, 0, 1024);  // the whole struct: its first field is the name
  strcpy(static_cast<char*>(properties), "Stand-in GPU");
  return success;
}
int fake_cudaDriverGetVersion(int* version) { return cuDriverGetVersion(version); }
int fake_cudaRuntimeGetVersion(int* version) { return cuDriverGetVersion(version); }
int fake_cudaDeviceSynchronize() { return whole_device_call(); }
int fake_cudaGetLastError() { return success; }
const char* fake_cudaGetErrorName(int status) { return status == out_of_memory ? "cudaErrorMemoryAllocation" : "cudaError"; }
const char* fake_cudaGetErrorString(int status) {
  const char* text;
  cuGetErrorString(status, &text);
  return text;
}

// --- the runtime: memory ---------------------------------------------------------------------------------------------

int fake_cudaMalloc(void** address, size_t size) {
  has_context = true;
  if (const int status = unsafe_call()) return status;
  return allocate(address, size, current_device);
}
int fake_cudaFree(void* address) {
  has_context = true;
  if (const int status = unsafe_call()) return status;
  return release(address);
}
int fake_cudaHostAlloc(void** address, size_t size, unsigned) {
  has_context = true;
  if (const int status = unsafe_call()) return status;
  return allocate(address, size, -1);
}
int fake_cudaFreeHost(void* address) {
  if (const int status = unsafe_call()) return status;
  return release(address);
}
int fake_cudaMemGetInfo(size_t* free, size_t* total) {
  std::lock_guard<std::mutex> lock(mutex);
  *free = capacity - used[current_device];
  *total = capacity;
  return success;
}
int fake_cudaMemcpyAsync(void* to, const void* from, size_t size, int, void* stream) {
  has_context = true;
  return submit(stream, [=] {
    memcpy(to, from, size);
    return success;
  });
}
int fake_cudaMemcpy(void* to, const void* from, size_t size, int kind) {
  if (const int status = unsafe_call()) return status;
  return fake_cudaMemcpyAsync(to, from, size, kind, nullptr);
}
int fake_cudaMemcpyPeerAsync(void* to, int, const void* from, int, size_t size, void* stream) {
  return fake_cudaMemcpyAsync(to, from, size, 0, stream);
}
int fake_cudaMemsetAsync(void* address, int value, size_t size, void* stream) {
  has_context = true;
  return submit(stream, [=] {
    memset(address, value, size);
    return success;
  });
}
int fake_cudaMemset(void* address, int value, size_t size) {
  if (const int status = unsafe_call()) return status;
  return fake_cudaMemsetAsync(address, value, size, nullptr);
}

struct PointerAttributes {
  int type;  // 0 unregistered, 1 host, 2 device
  int device;
  void* on_device;
  void* on_host;
};
int fake_cudaPointerGetAttributes(PointerAttributes* attributes, const void* address) {
  std::lock_guard<std::mutex> lock(mutex);
  *attributes = {0, 0, nullptr, const_cast<void*>(address)};
  auto found = allocated.upper_bound(uintptr_t(address));
  if (found == allocated.begin()) return success;
  --found;
  if (uintptr_t(address) >= found->first + found->second.size) return success;
  const int device = found->second.device;
  *attributes = {device < 0 ? 1 : 2, device < 0 ? 0 : device, const_cast<void*>(address), nullptr};
  return success;
}

}  // extern "C"
