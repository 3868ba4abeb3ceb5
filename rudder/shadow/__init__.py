"""What another plan would have cost: a model of one trainer, run over a sample of its accesses.

pipeline    modelled time, from the rows that each minibatch moves
feed        what minibatches ask for and cost
trial       one plan in force: a ledger of sampled rows and a pipeline
sample      the sample: which ids, their numbers, how often they were asked for
fit         a link's speed, from what an interval measured
latency     a link's latency, measured when a run begins
shadow      the live run's shadow: counterfactuals, and the default plan beside it

Nothing here needs the compiled core until a trial is made.
"""

from rudder.shadow.shadow import Shadow

__all__ = ["Shadow"]
