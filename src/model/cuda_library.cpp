#include "vbon/model/cuda_library.hpp"

#ifdef VBON_CUDA

#include <dlfcn.h>

namespace vbon {

bool has_cuda_build() { return true; }

// Found by the program's run path, as the libraries that it is linked with; it registers itself with libtorch_cpu.
std::string load_cuda_library(CudaLibrary when) {
  if (when == CudaLibrary::if_driver && ::dlopen("libcuda.so.1", RTLD_NOW) == nullptr) return {};
  return ::dlopen("libtorch_cuda.so", RTLD_NOW | RTLD_GLOBAL) != nullptr ? std::string() : ::dlerror();
}

}  // namespace vbon

#else

namespace vbon {

bool has_cuda_build() { return false; }

std::string load_cuda_library(CudaLibrary /*when*/) { return {}; }

}  // namespace vbon

#endif
