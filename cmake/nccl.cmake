# rudder_nccl, rows traded between GPUs. It needs neither NCCL nor CUDA to be built, nor to be imported: both are
# looked for when an exchange is made.
file(GLOB RUDDER_NCCL_SOURCES CONFIGURE_DEPENDS csrc/transport/nccl/*.cc)
add_library(rudder_nccl STATIC ${RUDDER_NCCL_SOURCES})
target_compile_options(rudder_nccl PRIVATE ${RUDDER_WARNINGS})
target_link_libraries(rudder_nccl PUBLIC rudder_core)
