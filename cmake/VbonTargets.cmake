# The two kinds of target that this project has: a layer (static library) and a test.

add_library(vbon_warnings INTERFACE)
target_compile_options(vbon_warnings INTERFACE
  -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Wnon-virtual-dtor -Woverloaded-virtual
  -Wno-missing-field-initializers  # designated initialisers leave the rest at its default on purpose
  -Wno-restrict                    # g++ 12 is wrong about std::string concatenation
  $<$<BOOL:${VBON_WERROR}>:-Werror>)
if(VBON_SANITIZE)
  target_compile_options(vbon_warnings INTERFACE -fsanitize=${VBON_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(vbon_warnings INTERFACE -fsanitize=${VBON_SANITIZE})
endif()

# vbon_layer(NAME SOURCES a.cpp ... LINK lower layers and third parties): one layer, one library.
function(vbon_layer name)
  cmake_parse_arguments(arg "" "" "SOURCES;LINK" ${ARGN})
  add_library(vbon_${name} STATIC ${arg_SOURCES})
  target_include_directories(vbon_${name} PUBLIC ${PROJECT_SOURCE_DIR}/include PRIVATE ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(vbon_${name} PUBLIC ${arg_LINK} PRIVATE vbon_warnings)
endfunction()

# vbon_test(NAME SOURCES ... LINK ... LABELS unit): one GoogleTest program of one process, one ctest entry.
function(vbon_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;LINK;LABELS" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SOURCES})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/src)
  target_compile_definitions(${name} PRIVATE VBON_TEST_DATA="${PROJECT_SOURCE_DIR}/tests")
  target_link_libraries(${name} PRIVATE ${arg_LINK} GTest::gtest GTest::gmock GTest::gtest_main vbon_warnings)
  add_test(NAME ${name} COMMAND ${name})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS "${arg_LABELS}")
endfunction()

# vbon_mpi_test(NAME SOURCES ... LINK ... NP 1 2 4): one program with the MPI test main, a ctest entry per size.
function(vbon_mpi_test name)
  cmake_parse_arguments(arg "" "TIMEOUT" "SOURCES;LINK;NP" ${ARGN})
  if(NOT arg_TIMEOUT)
    set(arg_TIMEOUT 120)
  endif()
  add_executable(${name} ${arg_SOURCES} ${PROJECT_SOURCE_DIR}/tests/support/mpi_main.cpp)
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR}/tests ${PROJECT_SOURCE_DIR}/src)
  target_link_libraries(${name} PRIVATE ${arg_LINK} vbon_comm GTest::gtest GTest::gmock vbon_warnings)
  foreach(np ${arg_NP})
    add_test(NAME ${name}.np${np} COMMAND ${PROJECT_SOURCE_DIR}/jobs/mpirun.sh -n ${np} $<TARGET_FILE:${name}>)
    set_tests_properties(${name}.np${np} PROPERTIES TIMEOUT ${arg_TIMEOUT} LABELS mpi PROCESSORS ${np})
  endforeach()
endfunction()
