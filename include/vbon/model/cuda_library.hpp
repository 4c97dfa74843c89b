// LibTorch's part for CUDA devices. It takes every process 0.2 s and 350 MB, so it is loaded where there is a driver.
#pragma once

#include <string>

namespace vbon {

bool has_cuda_build();  // devices can be used if there are any

enum class CudaLibrary { if_driver, always };

// To be called before anything of LibTorch runs, which looks for devices once. In a build for CPUs it does nothing.
// Returns why the library could not be loaded; empty: it could, or need not.
std::string load_cuda_library(CudaLibrary when = CudaLibrary::if_driver);

}  // namespace vbon
