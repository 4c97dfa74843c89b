// In a process of its own: LibTorch looks once whether its part for CUDA is there.
#include "vbon/model/cuda_library.hpp"

#include <ATen/Context.h>
#include <ATen/detail/CUDAHooksInterface.h>
#include <gtest/gtest.h>

namespace vbon {
namespace {

TEST(CudaLibrary, loaded_late_it_is_LibTorchs_own) {
  EXPECT_EQ(load_cuda_library(CudaLibrary::always), "");
  EXPECT_EQ(at::detail::getCUDAHooks().hasCUDART(), has_cuda_build());
  EXPECT_NO_THROW(at::hasCUDA());  // asks the driver, if there is one
}

}  // namespace
}  // namespace vbon
