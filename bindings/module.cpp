// rudder._core: registers, and nothing else. Its Python face is described in rudder/_core.pyi.
#include "register.h"

PYBIND11_MODULE(_core, m) {
  m.doc() = "The compiled core of Rudder.";
  register_errors(m);
  register_prior(m);
  register_gpu(m);
  register_transports(m);
  register_prefetcher(m);
  register_probe(m);
  register_ledger(m);
  register_shadow(m);
  register_replay(m);
  register_replay_log(m);
}
