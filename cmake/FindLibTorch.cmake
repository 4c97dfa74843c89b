# LibTorch from a PyPI wheel (or any LibTorch folder by VBON_LIBTORCH): the imported target LibTorch::cpu. TorchConfig.cmake
# is not used: that of a CUDA wheel wants nvcc even for a CPU build. With VBON_CUDA libtorch_cuda has to be there, too; the
# program loads it itself where there is a driver (model/cuda_library.hpp).

set(_candidates ${VBON_LIBTORCH})
file(GLOB _wheels ${PROJECT_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch)
list(APPEND _candidates ${_wheels})

find_path(LIBTORCH_INCLUDE_DIR ATen/core/Tensor.h PATHS ${_candidates} PATH_SUFFIXES include NO_DEFAULT_PATH)
find_library(LIBTORCH_CPU_LIBRARY torch_cpu PATHS ${_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)
find_library(LIBTORCH_C10_LIBRARY c10 PATHS ${_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)
set(_required LIBTORCH_INCLUDE_DIR LIBTORCH_CPU_LIBRARY LIBTORCH_C10_LIBRARY)
if(VBON_CUDA)
  find_library(LIBTORCH_CUDA_LIBRARY torch_cuda PATHS ${_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)
  find_library(LIBTORCH_C10_CUDA_LIBRARY c10_cuda PATHS ${_candidates} PATH_SUFFIXES lib NO_DEFAULT_PATH)
  list(APPEND _required LIBTORCH_CUDA_LIBRARY LIBTORCH_C10_CUDA_LIBRARY)
endif()

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(LibTorch REQUIRED_VARS ${_required}
  REASON_FAILURE_MESSAGE "run jobs/setup.sh, or give a LibTorch folder: -DVBON_LIBTORCH=/path/to/torch")

if(LibTorch_FOUND AND NOT TARGET LibTorch::cpu)
  get_filename_component(_lib_dir ${LIBTORCH_CPU_LIBRARY} DIRECTORY)
  # The wheel finds cupti and cudart beside itself (nvidia/cu13/lib); the linker is told where they are.
  get_filename_component(_site ${_lib_dir}/../.. ABSOLUTE)
  add_library(LibTorch::cpu INTERFACE IMPORTED)
  # After the system's own folders (-idirafter): the wheel carries copies of other libraries' headers (fmt, dnnl …).
  target_compile_options(LibTorch::cpu INTERFACE "SHELL:-idirafter ${LIBTORCH_INCLUDE_DIR}")
  target_compile_definitions(LibTorch::cpu INTERFACE AT_PER_OPERATOR_HEADERS)
  # at::parallel_for is a template over OpenMP: without this it runs on one thread. The wheel brings its own libgomp of
  # the same soname, which the run path puts first, so there is one pool of threads.
  target_compile_options(LibTorch::cpu INTERFACE -fopenmp)
  target_link_options(LibTorch::cpu INTERFACE -fopenmp)
  target_link_libraries(LibTorch::cpu INTERFACE ${LIBTORCH_CPU_LIBRARY} ${LIBTORCH_C10_LIBRARY})
  target_link_options(LibTorch::cpu INTERFACE
    -Wl,-rpath,${_lib_dir} -Wl,-rpath-link,${_site}/nvidia/cu13/lib -Wl,-rpath-link,${_lib_dir})
endif()
