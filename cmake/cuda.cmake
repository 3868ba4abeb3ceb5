# rudder_cuda, the GPU itself: kernels and calls of the CUDA runtime (csrc/cuda/native), where a CUDA compiler is. All
# around it is plain C++ in rudder_core, which links no CUDA library. The runtime is linked statically, so what is built
# here loads on machines without a driver. With AUTO a compiler that cannot be used is said to be so and left alone: it
# must not keep anybody from building the rest.
set(RUDDER_CUDA_OLDEST 12.0)  # the first that compiles C++20

if(RUDDER_WITH_CUDA STREQUAL "OFF")
  return()
endif()

include(CheckLanguage)
if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
  # Ampere and Hopper as machine code; later ones by the driver, from PTX.
  set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
endif()
set(RUDDER_CUDA_WHY_NOT "")
check_language(CUDA)
if(NOT CMAKE_CUDA_COMPILER)
  set(RUDDER_CUDA_WHY_NOT "no CUDA compiler that works was found: put nvcc on PATH or set CUDACXX")
else()
  execute_process(COMMAND ${CMAKE_CUDA_COMPILER} --version OUTPUT_VARIABLE RUDDER_NVCC ERROR_QUIET)
  if(RUDDER_NVCC MATCHES "release ([0-9]+\\.[0-9]+)" AND CMAKE_MATCH_1 VERSION_LESS RUDDER_CUDA_OLDEST)
    set(RUDDER_CUDA_WHY_NOT "${CMAKE_CUDA_COMPILER} is of CUDA ${CMAKE_MATCH_1}; ${RUDDER_CUDA_OLDEST} or later is needed")
  endif()
endif()
if(NOT RUDDER_CUDA_WHY_NOT)
  find_package(CUDAToolkit QUIET)
  if(NOT TARGET CUDA::cudart_static)
    set(RUDDER_CUDA_WHY_NOT "the CUDA toolkit beside ${CMAKE_CUDA_COMPILER} has no static runtime (libcudart_static.a)")
  endif()
endif()

if(NOT RUDDER_CUDA_WHY_NOT)
  enable_language(CUDA)
  message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION}: building for GPUs (${CMAKE_CUDA_ARCHITECTURES})")
  file(GLOB RUDDER_CUDA_SOURCES CONFIGURE_DEPENDS csrc/cuda/native/*.cc csrc/cuda/native/*.cu)
  add_library(rudder_cuda STATIC ${RUDDER_CUDA_SOURCES})
  target_compile_options(rudder_cuda PRIVATE ${RUDDER_WARNINGS})
  set_target_properties(rudder_cuda PROPERTIES CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON)
  target_link_libraries(rudder_cuda PUBLIC rudder_core CUDA::cudart_static)
elseif(RUDDER_WITH_CUDA STREQUAL "ON")
  message(FATAL_ERROR "RUDDER_WITH_CUDA=ON, but ${RUDDER_CUDA_WHY_NOT}")
else()
  message(STATUS "No CUDA: GPUs are left out (${RUDDER_CUDA_WHY_NOT})")
endif()
