#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nccl.h>

#include "vbon/comm/doctor.hpp"

namespace vbon::comm {
namespace {

std::string cuda_version(int number) {
  return number == 0 ? "" : fmt::format("{}.{}", number / 1000, number % 1000 / 10);
}

}  // namespace

CudaFacts cuda_facts() {
  CudaFacts facts{.built = true};
  int number = 0;
  if (ncclGetVersion(&number) == ncclSuccess)
    facts.nccl = fmt::format("{}.{}.{}", number / 10000, number % 10000 / 100, number % 100);
  if (number = 0; cudaRuntimeGetVersion(&number) == cudaSuccess) facts.runtime = cuda_version(number);
  if (number = 0; cudaDriverGetVersion(&number) == cudaSuccess) facts.driver = cuda_version(number);
  int count = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&count); code != cudaSuccess) {
    facts.problem = cudaGetErrorString(code);
    return facts;
  }
  for (int device = 0; device < count; ++device) {
    cudaDeviceProp properties;
    if (const cudaError_t code = cudaGetDeviceProperties(&properties, device); code != cudaSuccess) {
      facts.problem = fmt::format("device {}: {}", device, cudaGetErrorString(code));
      return facts;
    }
    facts.devices.push_back({properties.name, properties.totalGlobalMem, properties.major, properties.minor});
  }
  return facts;
}

}  // namespace vbon::comm
