// One function per concept; module.cpp calls them all.
#pragma once

#include <pybind11/pybind11.h>

void register_errors(pybind11::module_& m);
void register_prior(pybind11::module_& m);
void register_gpu(pybind11::module_& m);
void register_transports(pybind11::module_& m);
void register_prefetcher(pybind11::module_& m);
void register_probe(pybind11::module_& m);
void register_ledger(pybind11::module_& m);
void register_shadow(pybind11::module_& m);
void register_replay(pybind11::module_& m);
void register_replay_log(pybind11::module_& m);
