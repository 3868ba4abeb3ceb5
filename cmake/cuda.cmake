# Adds csrc/cuda/*.cu to rudder_core where a CUDA compiler is. The runtime is linked statically, so the result
# loads on machines without a driver.
if(RUDDER_CUDA_SOURCES AND NOT RUDDER_WITH_CUDA STREQUAL "OFF")
  include(CheckLanguage)
  check_language(CUDA)
  if(CMAKE_CUDA_COMPILER)
    if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
      set(CMAKE_CUDA_ARCHITECTURES all-major)
    endif()
    enable_language(CUDA)
    find_package(CUDAToolkit REQUIRED)
    message(STATUS "CUDA ${CMAKE_CUDA_COMPILER_VERSION}: building the GPU kernels")
    target_sources(rudder_core PRIVATE ${RUDDER_CUDA_SOURCES})
    set_target_properties(rudder_core PROPERTIES
      CUDA_STANDARD 20 CUDA_STANDARD_REQUIRED ON
      CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}")
    target_compile_definitions(rudder_core PUBLIC RUDDER_HAVE_CUDA)
    target_link_libraries(rudder_core PUBLIC CUDA::cudart_static)
  elseif(RUDDER_WITH_CUDA STREQUAL "ON")
    message(FATAL_ERROR "RUDDER_WITH_CUDA=ON, but no CUDA compiler was found: put nvcc on PATH or set CUDACXX")
  endif()
endif()
