# Adds csrc/transport/ucx to rudder_core where UCX is found: the wheel libucx-cu12/-cu13 (its CMake package lies in
# site-packages), or the system's (Debian libucx-dev, HPC-X through CMAKE_PREFIX_PATH).
if(RUDDER_UCX_SOURCES AND NOT RUDDER_WITH_UCX STREQUAL "OFF")
  find_package(ucx CONFIG QUIET)
  if(ucx_FOUND)
    message(STATUS "UCX ${ucx_VERSION}: building the ucx transport")
    target_sources(rudder_core PRIVATE ${RUDDER_UCX_SOURCES})
    target_compile_definitions(rudder_core PUBLIC RUDDER_HAVE_UCX)
    target_link_libraries(rudder_core PUBLIC ucx::ucp ucx::ucs)
    # The wheel's libraries are loaded by Python before the extension; a path baked in would map a second copy.
    set(CMAKE_SKIP_RPATH ON)
  elseif(RUDDER_WITH_UCX STREQUAL "ON")
    message(FATAL_ERROR "RUDDER_WITH_UCX=ON, but no UCX was found: pip install libucx-cu13, or apt-get install libucx-dev")
  endif()
endif()
