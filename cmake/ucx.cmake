# rudder_ucx, the ucx transport and the feature server, where UCX is found: the system's (Debian libucx-dev, HPC-X through
# CMAKE_PREFIX_PATH), or the wheel libucx-cu12/-cu13, whose CMake package lies in site-packages. Either serves at run
# time, whichever it was built against: only calls of UCX 1.13 are used.
if(NOT RUDDER_WITH_UCX STREQUAL "OFF")
  find_package(Python COMPONENTS Interpreter QUIET)
  if(Python_FOUND)
    execute_process(
      COMMAND ${Python_EXECUTABLE} -c
              "import importlib.util as u; s = u.find_spec('libucx'); print(s.submodule_search_locations[0] if s else '')"
      OUTPUT_VARIABLE RUDDER_UCX_WHEEL
      OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  endif()
  find_package(ucx CONFIG QUIET PATHS "${RUDDER_UCX_WHEEL}/lib/cmake/ucx")
  if(ucx_FOUND)
    message(STATUS "UCX ${ucx_VERSION}: building the ucx transport")
    file(GLOB RUDDER_UCX_SOURCES CONFIGURE_DEPENDS csrc/transport/ucx/*.cc)
    add_library(rudder_ucx STATIC ${RUDDER_UCX_SOURCES})
    target_compile_options(rudder_ucx PRIVATE ${RUDDER_WARNINGS})
    target_compile_definitions(rudder_ucx INTERFACE RUDDER_HAVE_UCX)
    target_link_libraries(rudder_ucx PUBLIC rudder_core ucx::ucp ucx::ucs)
  elseif(RUDDER_WITH_UCX STREQUAL "ON")
    message(FATAL_ERROR "RUDDER_WITH_UCX=ON, but no UCX was found: pip install libucx-cu13, or apt-get install libucx-dev")
  else()
    message(STATUS "No UCX found: the ucx transport is left out (pip install libucx-cu13, or apt-get install libucx-dev)")
  endif()
endif()
