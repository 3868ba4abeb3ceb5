"""The plan in force: what it means in rows, and how the next one is brought into force."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rudder.agent import DefaultController, Space, make_controller
from rudder.agent.controller import ControllerLike
from rudder.agent.guard import Guard
from rudder.agent.job import JobFacts
from rudder.errors import ClosedError, ConfigError, RudderError
from rudder.metrics import IntervalMetrics
from rudder.options import Options
from rudder.plan import Plan
from rudder.policies import SCORE, STATIC_FREQUENCY
from rudder.prior import Priors
from rudder.shadow.latency import first_row_seconds
from rudder.shadowing import LiveShadow
from rudder.shares import open_shares
from rudder.source import FeatureSource, Ids
from rudder.steering import Notes, Steering

if TYPE_CHECKING:
    from rudder._core import Prefetcher as Core
    from rudder._core import Transport
    from rudder.recorder import Recorder


class Planner:
    """Steers one core by plans. One thread steers (the trainer's); reading is thread-safe."""

    def __init__(self, source: FeatureSource, options: Options, capacity_rows: int, remote_rows: int) -> None:
        """``capacity_rows``: the trainer's own memory, in rows; plans take a share of it, and split that
        between buffer and window. ``remote_rows``: all that others own.
        """
        self._source, self._policy = source, options.policy
        self._capacity_rows, self._row_bytes = capacity_rows, source.row_bytes
        self._remote_rows = remote_rows
        self._device = options.device is not None
        # The paper's yes or no means something to this policy alone; see csrc/policy/score.h.
        self._scores = options.policy == SCORE
        # Is its count to end with the first epoch?
        self._counts = options.policy == STATIC_FREQUENCY and options.policy_settings.observe is None
        self._priors = Priors(source, options)
        plan, self.first_prior = self._priors.start(options.first_plan)
        # What GPU memory holds is the user's, or a controller's of his own: those that come with Rudder know
        # nothing of it, and see plans without.
        self._device_share = plan.device_share
        model = None if options.agent_model is None else os.fspath(options.agent_model)
        controller = make_controller(options.controller, model=model)
        steered = not isinstance(controller, DefaultController)
        steered_plan = _without_device(plan)
        self._shares = open_shares(source.name, options, capacity_rows, steered=steered)
        begins = steered_plan.but(share=self._shares.share if self._shares is not None else 100)
        self._shadow = LiveShadow(source, options, begins, capacity_rows, self._priors) if steered else None
        self._steering = Steering(
            controller,
            # A source computes its priors once: only what is counted here can be had anew.
            Space(
                steered_plan,
                self._priors.choices(plan),
                rebuilds=("frequency",),
                scores=self._scores,
                shares=self._shares is not None,
            ),
            shadow=self._shadow,
            guard=Guard(steered_plan) if steered and options.guard else None,
            name=_name(options.controller),
            bounded=isinstance(options.controller, str),
            shares=self._shares,
        )
        self._steering.plan = begins
        self._core: Core | None = None
        self._recorder: Recorder | None = None

    def measure(self, routes: Sequence[Sequence[Transport]], table: int) -> None:
        """Ask each peer for a row, where other plans are modelled: how far away are they?"""
        if self._shadow is None:
            return
        source = self._source
        seconds = first_row_seconds(
            routes, table=table, part_starts=source.part_starts, row_bytes=source.row_bytes
        )
        if seconds is not None:
            self._shadow.measured(seconds)

    def steer(self, core: Core, recorder: Recorder | None, notes: Notes) -> None:
        """Steer this core from now on, which was opened with the first plan and the whole memory."""
        self._core, self._recorder = core, recorder
        self._steering.job = self._facts(core)
        self._steering.write_to(notes)
        if self.buffer_rows < self.memory_rows:
            core.steer(capacity_rows=self.buffer_rows)
        if self._scores:
            core.steer(**self._replacement(self.plan))

    @property
    def plan(self) -> Plan:
        """The plan in force."""
        return self._steering.plan.but(device_share=self._device_share)

    @property
    def refused(self) -> int:
        """Controller's answers that could not be used."""
        return self._steering.refused

    @property
    def memory_rows(self) -> int:
        """Rows of memory that the trainer takes."""
        return self._memory_rows(self.plan)

    @property
    def most_rows(self) -> int:
        """Rows of memory that it may ever take."""
        return self._capacity_rows if self._shares is None else self._shares.most_rows

    @property
    def buffer_rows(self) -> int:
        """Rows that the buffer may hold."""
        return self._buffer_rows(self.plan)

    @property
    def device_rows(self) -> int:
        """Rows that GPU memory should hold, too."""
        return self._device_rows(self.plan)

    @property
    def window_rows(self) -> int:
        """Remote requests that the window should hold."""
        return self._window_rows(self.plan)

    @property
    def waiting_share(self) -> int:
        """Bytes of the memory that the plan gives to waiting blocks."""
        return (self.memory_rows - self.buffer_rows) * self._row_bytes

    def submitted(self, ids: Ids, waiting_bytes: int, sampling_seconds: float) -> None:
        """A minibatch enters the window: for priors that come from accesses, and for the shadow."""
        self._priors.count(ids, self.plan)
        if self._shadow is not None:
            self._shadow.submitted(ids, waiting_bytes, sampling_seconds)

    def dropped(self) -> None:
        """What was submitted and not taken is forgotten."""
        if self._shadow is not None:
            self._shadow.dropped()

    def replan(self, **changes: Any) -> Plan:
        """Change fields of the plan now. Raises ConfigError."""
        plan = self.plan.but(**changes)
        if plan.device_share and not self._device:
            raise ConfigError("device_share needs a table that was opened with device='cuda'")
        plan = self._possible(plan)
        self._apply(plan)
        self._steering.interrupted()
        return plan

    @property
    def asks_after(self) -> int | None:
        """Minibatches of the interval after which to call `ask`; None: not (any more) in this interval."""
        return self._steering.asks_after

    def ask(self, metrics: IntervalMetrics, waiting_bytes: int | None = None) -> None:
        """The interval has come so far: ask a controller that thinks elsewhere, if it is time."""
        self._steering.ask(replace(metrics, plan=_without_device(metrics.plan)), waiting_bytes)

    def next_interval(self, metrics: IntervalMetrics, waiting_bytes: int | None = None) -> None:
        """Ask the controller for the next interval's plan and bring it into force, if it can be.

        ``waiting_bytes``: the loader's bound on blocks that wait, where there is a loader.
        """
        known = replace(metrics, plan=_without_device(metrics.plan))
        self._tell_kept()
        plan = self._steering.step(known, waiting_bytes)
        plan = plan.but(device_share=(plan.device_share or self._device_share) if self._device else 0)
        plan = self._possible(plan)
        if plan == self.plan and not self._priors.due(self.plan, plan) and not self._scores:
            self._steering.accept(_without_device(plan))
        else:
            self._try(plan, "answered a plan that")
        back = self._steering.settle()
        if back is not None:
            self._try(
                self._possible(back.but(device_share=self._device_share)),
                "falls asleep, and the plan to go back to",
            )

    def finish(self, metrics: IntervalMetrics) -> None:
        """The run's last interval is over."""
        self._steering.finish(replace(metrics, plan=_without_device(metrics.plan)))

    def end_epoch(self) -> None:
        """An epoch is over."""
        if self._counts and self._core is not None:
            self._counts = False
            with contextlib.suppress(ClosedError):  # who reads rows of a closed table is told so there
                self._core.steer(observe=1)

    def give_back(self) -> None:
        """The table is about to close: return what other trainers had given."""
        if self._shares is None or self._core is None:
            return
        with contextlib.suppress(RudderError):
            self._core.steer(capacity_rows=min(self.buffer_rows, self._capacity_rows))
        self._shares.leave(int(self._core.counters()["held_rows"]))

    def close(self) -> None:
        """Close the controller, where it wants to be."""
        self._steering.close()

    def _facts(self, core: Core) -> JobFacts:
        """What is known of the job now that the core is open."""
        names = (str(route["transport"]) for route in core.route_state() if route["transport"])
        return replace(
            self._source.job,
            partitions=len(self._source.part_starts) - 1,
            rows=int(self._source.part_starts[-1]),
            remote_rows=self._remote_rows,
            halo_rows=self._source.halo_rows,
            row_bytes=self._row_bytes,
            capacity_rows=self._capacity_rows,
            policy=self._policy,
            transports=tuple(dict.fromkeys(names)),
        )

    def _try(self, plan: Plan, which: str) -> None:
        """Bring it into force, or count it as refused and stay."""
        try:
            self._apply(plan)
        except RudderError as error:
            self._steering.refuse(f"{which} cannot be applied ({plan}): {error}")

    def _possible(self, plan: Plan) -> Plan:
        """The plan with the share that is granted, which is the trainer's own where nothing is shared."""
        return plan.but(share=100 if self._shares is None else self._shares.granted(plan.share))

    def _tell_kept(self) -> None:
        if self._shares is not None:
            self._shares.applied(self._kept_rows())

    def _kept_rows(self) -> int:
        """Rows of memory that are taken, also by readers of a buffer that was larger."""
        assert self._core is not None
        held = int(self._core.counters()["held_rows"])
        return self.memory_rows + max(0, held - self.buffer_rows)

    def _apply(self, plan: Plan) -> None:
        try:
            self._bring(plan)
        except RudderError:
            if self._shares is not None:
                self._shares.granted(self.plan.share)
            raise
        self._tell_kept()

    def _bring(self, plan: Plan) -> None:
        assert self._core is not None
        began = time.perf_counter()
        prior = self._priors.change(self.plan, plan)
        if self._recorder is not None and prior is not None:
            self._recorder.prior(prior)
        self._core.steer(
            capacity_rows=self._buffer_rows(plan),
            window_rows=self._window_rows(plan),
            depth=plan.depth,
            prior=prior,
            **self._replacement(plan),
            device_rows=self._device_rows(plan),
        )
        self._device_share = plan.device_share
        plan = _without_device(plan)
        if self._shadow is not None:
            worth = self._priors.worth(plan.prior) if prior is not None else None
            self._shadow.applied(plan, worth, time.perf_counter() - began, renewed=prior is not None)
        self._steering.accept(plan.but(rebuild=False), rebuilt=prior is not None)

    def _replacement(self, plan: Plan) -> dict[str, Any]:
        """What a plan says to the paper's policy, and to no other."""
        return {"replace": plan.replace, "fraction": plan.fraction} if self._scores else {}

    def _buffer_rows(self, plan: Plan) -> int:
        return min(self._memory_rows(plan) * plan.buffer_share // 100, self._remote_rows)

    def _memory_rows(self, plan: Plan) -> int:
        return self._capacity_rows * plan.share // 100

    def _device_rows(self, plan: Plan) -> int:
        return self._buffer_rows(plan) * plan.device_share // 100

    def _window_rows(self, plan: Plan) -> int:
        return round(plan.window * self._buffer_rows(plan))


def _name(which: ControllerLike) -> str:
    if isinstance(which, str):
        return which
    return "default" if isinstance(which, DefaultController) else type(which).__name__


def _without_device(plan: Plan) -> Plan:
    return plan.but(device_share=0)
