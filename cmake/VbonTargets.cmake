# The kinds of target that this project has: a layer (static library), a test, a test on several ranks.

add_library(vbon_warnings INTERFACE)
target_compile_options(vbon_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-field-initializers  # designated initialisers leave the rest at its default on purpose
  -Wno-restrict -Wno-stringop-overflow -Wno-stringop-overread -Wno-array-bounds  # g++ 12 is wrong about std::string concatenation
  $<$<BOOL:${VBON_WERROR}>:-Werror>)
if(VBON_SANITIZE)
  # Whatever a sanitizer finds ends the program: a test that goes on would pass. g++ 12 warns of more than there is.
  target_compile_options(vbon_warnings INTERFACE -fsanitize=${VBON_SANITIZE} -fno-sanitize-recover=all
    -fno-omit-frame-pointer -Wno-maybe-uninitialized)
  target_compile_definitions(vbon_warnings INTERFACE _GLIBCXX_ASSERTIONS)
  target_link_options(vbon_warnings INTERFACE -fsanitize=${VBON_SANITIZE})
endif()

# What takes no time when it runs is compiled fast: tests not optimised, light layers a little.
set(_test_optimization $<$<CONFIG:Release>:-O0>)

# Headers of other people that most files read are parsed once for each kind of target: with LibTorch or without, test
# or not. A header here costs every file the templates that it leaves to instantiate (nlohmann/json: 0.4 s), so one that
# few files read is not worth it. Files still include what they use: with VBON_PRECOMPILED=OFF the compiler checks that.
set(_common_headers <algorithm> <array> <chrono> <cmath> <cstdint> <filesystem> <functional> <map> <memory> <numeric>
  <optional> <span> <string> <string_view> <vector> <fmt/format.h>)
set(_torch_headers <ATen/core/Tensor.h> <ATen/Parallel.h> <ATen/TensorOperators.h> <ATen/ops/empty.h>)
set(_test_headers <gtest/gtest.h> <gmock/gmock.h>)
function(_vbon_precompile name libraries)
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/${name}.cpp CONTENT "")
  add_library(${name} OBJECT ${PROJECT_BINARY_DIR}/${name}.cpp)
  target_link_libraries(${name} PRIVATE ${libraries} fmt::fmt vbon_warnings)
  target_precompile_headers(${name} PRIVATE ${_common_headers} ${ARGN})
  target_compile_options(${name} PRIVATE -fpch-preprocess)
endfunction()
if(VBON_PRECOMPILED)
  _vbon_precompile(vbon_headers "")
  _vbon_precompile(vbon_torch_headers LibTorch::cpu ${_torch_headers})
  if(VBON_TESTS)
    _vbon_precompile(vbon_test_headers GTest::gmock ${_test_headers})
    _vbon_precompile(vbon_torch_test_headers "LibTorch::cpu;GTest::gmock" ${_torch_headers} ${_test_headers})
    foreach(kind test torch_test)
      target_compile_options(vbon_${kind}_headers PRIVATE ${_test_optimization})
    endforeach()
  endif()
endif()

# Whether what links these libraries sees LibTorch, whose headers are most of the time that a compiler takes.
function(_vbon_needs_torch result)
  set(needs FALSE)
  if("${ARGN}" MATCHES "LibTorch|vbon_(objective|model|generate|reward|train|commands)")
    set(needs TRUE)
  endif()
  set(${result} ${needs} PARENT_SCOPE)
endfunction()

# The tests that do without LibTorch: label and target `light`, what continuous integration runs under the sanitizers.
add_custom_target(light)
function(_vbon_mark_light name test)
  _vbon_needs_torch(torch ${ARGN})
  if(NOT torch)
    add_dependencies(light ${name})
    set_property(TEST ${test} APPEND PROPERTY LABELS light)
  endif()
endfunction()

# _vbon_headers(NAME test|"" libraries it links)
function(_vbon_headers name test)
  if(VBON_PRECOMPILED)
    set(kind vbon)
    _vbon_needs_torch(torch ${ARGN})
    if(torch)
      string(APPEND kind _torch)
    endif()
    if(test)
      string(APPEND kind _test)
    endif()
    target_precompile_headers(${name} REUSE_FROM ${kind}_headers)
    target_compile_options(${name} PRIVATE -fpch-preprocess)  # or ccache could not see into them
  endif()
endfunction()

# vbon_layer(NAME [LIGHT] SOURCES a.cpp ... LINK lower layers and third parties): one layer, one library. LIGHT: it
# calls what computes and computes little itself.
function(vbon_layer name)
  cmake_parse_arguments(arg "LIGHT" "" "SOURCES;LINK" ${ARGN})
  add_library(vbon_${name} STATIC ${arg_SOURCES})
  target_include_directories(vbon_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(vbon_${name} PUBLIC ${arg_LINK} PRIVATE vbon_warnings)
  _vbon_headers(vbon_${name} "" ${arg_LINK})
  if(arg_LIGHT)
    target_compile_options(vbon_${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  endif()
endfunction()

# Tests run side by side and their tensors are tiny: a second thread a test would only wait for a core. What the
# sanitizers are to leave alone is named, with its reason, in tests/sanitizers.
set(_test_environment OMP_NUM_THREADS=1)
set(_mpi_environment ${_test_environment})
set(_slower 1)
if(VBON_SANITIZE)
  set(_slower 5)
endif()
if(VBON_SANITIZE MATCHES "address")
  # An error is a signal, so that a child that reads a damaged file for us dies of it as it does without; whoever asks for
  # too much memory is told so. MPI's leaks are known by their callers, whom the fast way does not find.
  set(_sanitizers ${PROJECT_SOURCE_DIR}/tests/sanitizers)
  set(_asan ASAN_OPTIONS=abort_on_error=1:allocator_may_return_null=1:suppressions=${_sanitizers}/addresses.txt)
  set(_lsan LSAN_OPTIONS=suppressions=${_sanitizers}/leaks.txt:print_suppressions=0)
  list(APPEND _test_environment ${_asan} ${_lsan})
  list(APPEND _mpi_environment ${_asan}:fast_unwind_on_malloc=0 ${_lsan})
elseif(VBON_SANITIZE MATCHES "thread")
  # Here too whoever asks for too much memory is told so.
  set(_suppressed suppressions=${PROJECT_SOURCE_DIR}/tests/sanitizers/threads.txt:print_suppressions=0)
  set(_tsan TSAN_OPTIONS=allocator_may_return_null=1:${_suppressed})
  list(APPEND _test_environment ${_tsan})
  list(APPEND _mpi_environment ${_tsan})
endif()

# Seconds that a test may take: what it asks for, or two minutes; more under sanitizers.
function(_vbon_time_limit limit asked)
  if(NOT asked)
    set(asked 120)
  endif()
  math(EXPR seconds "${asked} * ${_slower}")
  set(${limit} ${seconds} PARENT_SCOPE)
endfunction()

# vbon_test(NAME SOURCES ... LINK ... LABELS unit [SHARDS n] [TIMEOUT s]): one GoogleTest program of one process, one
# ctest entry; a long one is cut into n entries, each with every n-th of its tests, so that they run side by side.
function(vbon_test name)
  cmake_parse_arguments(arg "" "TIMEOUT;SHARDS" "SOURCES;LINK;LABELS" ${ARGN})
  _vbon_time_limit(limit "${arg_TIMEOUT}")
  if(NOT arg_SHARDS)
    set(arg_SHARDS 1)
  endif()
  set(environment ${_test_environment})
  if("mpi" IN_LIST arg_LABELS)
    set(environment ${_mpi_environment})
  endif()
  add_executable(${name} ${arg_SOURCES})
  _vbon_test_properties(${name} ${arg_LINK})
  target_link_libraries(${name} PRIVATE GTest::gtest_main)
  foreach(shard RANGE 1 ${arg_SHARDS})
    set(entry ${name})
    if(arg_SHARDS GREATER 1)
      set(entry ${name}.${shard}of${arg_SHARDS})
    endif()
    math(EXPR index "${shard} - 1")
    add_test(NAME ${entry} COMMAND ${name})
    set_tests_properties(${entry} PROPERTIES TIMEOUT ${limit} LABELS "${arg_LABELS}"
      ENVIRONMENT "${environment};GTEST_TOTAL_SHARDS=${arg_SHARDS};GTEST_SHARD_INDEX=${index}")
    _vbon_mark_light(${name} ${entry} ${arg_LINK})
  endforeach()
endfunction()

# vbon_mpi_test(NAME SOURCES ... LINK ... NP 1 2 4 [LOCAL NAME]): one program with the MPI test main, a ctest entry
# (label mpi) per size; with LOCAL a second program of the same objects, one process without MPI (label unit).
function(vbon_mpi_test name)
  cmake_parse_arguments(arg "" "TIMEOUT;LOCAL" "SOURCES;LINK;NP" ${ARGN})
  _vbon_time_limit(limit "${arg_TIMEOUT}")
  add_library(${name}_objects OBJECT ${arg_SOURCES})
  _vbon_test_properties(${name}_objects ${arg_LINK} vbon_comm)
  add_executable(${name} ${PROJECT_SOURCE_DIR}/tests/support/mpi_main.cpp)
  target_link_libraries(${name} PRIVATE ${name}_objects)
  _vbon_test_properties(${name} ${arg_LINK} vbon_comm)
  foreach(np ${arg_NP})
    add_test(NAME ${name}.np${np} COMMAND ${PROJECT_SOURCE_DIR}/jobs/mpirun.sh -n ${np} $<TARGET_FILE:${name}>)
    set_tests_properties(${name}.np${np} PROPERTIES TIMEOUT ${limit} LABELS mpi PROCESSORS ${np}
      ENVIRONMENT "${_mpi_environment}")
    _vbon_mark_light(${name} ${name}.np${np} ${arg_LINK})
  endforeach()
  if(arg_LOCAL)
    vbon_test(${arg_LOCAL} SOURCES ${PROJECT_SOURCE_DIR}/tests/support/local_world.cpp
      LINK ${name}_objects ${arg_LINK} vbon_comm LABELS unit TIMEOUT ${arg_TIMEOUT})
  endif()
endfunction()

function(_vbon_test_properties name)
  target_compile_options(${name} PRIVATE ${_test_optimization})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(${name} PRIVATE VBON_TEST_DATA="${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(${name} PRIVATE ${ARGN} GTest::gtest GTest::gmock vbon_warnings)
  _vbon_headers(${name} test ${ARGN})
endfunction()
