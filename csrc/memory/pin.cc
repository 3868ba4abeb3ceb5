#include "memory/pin.h"

#include <dlfcn.h>

namespace rudder {
namespace {

// The three calls needed, spelled as the runtime's C interface has spelled them since CUDA 4.
struct Cudart {
  int (*device_count)(int*) = nullptr;
  int (*host_register)(void*, std::size_t, unsigned) = nullptr;
  int (*host_unregister)(void*) = nullptr;
  const char* (*error_string)(int) = nullptr;
  std::string refusal;

  Cudart() {
    // A runtime that the process has loaded already (torch's) comes first: two runtimes would mean two
    // contexts.
    void* library = nullptr;
    for (const int flags : {RTLD_NOW | RTLD_NOLOAD, RTLD_NOW})
      for (const char* name : {"libcudart.so.13", "libcudart.so.12", "libcudart.so"})
        if (library == nullptr) library = dlopen(name, flags);
    if (library == nullptr) {
      refusal = "no CUDA runtime library found";
      return;
    }
    const auto load = [library](auto& function, const char* name) {
      function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    };
    load(device_count, "cudaGetDeviceCount");
    load(host_register, "cudaHostRegister");
    load(host_unregister, "cudaHostUnregister");
    load(error_string, "cudaGetErrorString");
    if (!device_count || !host_register || !host_unregister || !error_string) {
      refusal = "the CUDA runtime library lacks cudaHostRegister";
      return;
    }
    int devices = 0;
    if (const int error = device_count(&devices); error != 0)
      refusal = std::string("no CUDA device: ") + error_string(error);
    else if (devices == 0)
      refusal = "no CUDA device";
  }
};

const Cudart& cudart() {
  static const Cudart instance;
  return instance;
}

constexpr unsigned kPortableMapped = 0x01 | 0x02;  // cudaHostRegisterPortable | cudaHostRegisterMapped

}  // namespace

bool pin(void* memory, std::size_t bytes, std::string& refusal) {
  const Cudart& cuda = cudart();
  refusal = cuda.refusal;
  if (!refusal.empty()) return false;
  if (const int error = cuda.host_register(memory, bytes, kPortableMapped); error != 0) {
    refusal = std::string("cudaHostRegister refused: ") + cuda.error_string(error);
    return false;
  }
  return true;
}

void unpin(void* memory) noexcept { cudart().host_unregister(memory); }

}  // namespace rudder
