"""Controllers that learned from labelled decisions with scikit-learn: what the paper compares models with.

One classifier names the candidate (`Space.candidates`) that the signals speak for; it may only take one that
is there. It learns when it is made, from a text file of labelled decisions (`rudder.agent.examples`), which
takes seconds: nothing is stored that only scikit-learn could read, since reading a stranger's pickle runs
their code.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rudder.agent.evidence import COUNTERFACTUALS, SIGNALS, Evidence
from rudder.agent.examples import Example, read, signals_of
from rudder.agent.prompt import plan_of
from rudder.errors import ConfigError
from rudder.plan import PRIORS, Plan

if TYPE_CHECKING:
    import numpy.typing as npt

#: What `make_controller` offers behind "classifier:".
KINDS = ("logistic", "forest", "mlp", "svm", "xgboost")
#: Decisions of simulated workloads that come with the package; `rudder pilot train` makes them.
SHIPPED = Path(__file__).with_name("decisions.tsv")
_SEED = 1


class ClassifierController:
    """Answers the candidate that a classifier names. Learns when it is made: seconds."""

    def __init__(self, kind: str, examples: Sequence[Example] | Path = SHIPPED) -> None:
        """``kind`` is one of `KINDS`. Raises ConfigError, FormatError (the file of examples)."""
        if kind not in KINDS:
            raise ConfigError(f"classifier {kind!r}: use {', '.join(KINDS)}")
        learned = read(examples) if isinstance(examples, Path) else list(examples)
        if not learned:
            raise ConfigError(f"classifier {kind}: there is no example to learn from")
        self.kind = kind
        self._names = sorted({example.best for example in learned})
        places = {name: place for place, name in enumerate(self._names)}
        self._model = None
        if len(self._names) > 1:
            features = np.array([_features(plan_of(e.line), signals_of(e.line)) for e in learned])
            labels = np.array([places[example.best] for example in learned])
            self._model = _fitted(kind, features, labels, [example.weight for example in learned])

    def decide(self, evidence: Evidence) -> Plan:
        """The likeliest candidate that may follow."""
        candidates = evidence.space.candidates(evidence.plan)
        for name in self._ranked(evidence):
            if name in candidates:
                return evidence.space.bounded(evidence.plan, candidates[name])
        return candidates["="]

    def _ranked(self, evidence: Evidence) -> list[str]:
        if self._model is None:
            return self._names
        likely = _scores(self._model, [_features(evidence.plan, evidence.signals())])[0]
        return [self._names[place] for place in np.argsort(-likely, kind="stable")]


def _scores(model: Any, features: list[list[float]]) -> npt.NDArray[np.float64]:
    """Of every label; higher is likelier."""
    if hasattr(model, "predict_proba"):
        return np.asarray(model.predict_proba(features))
    found = np.asarray(model.decision_function(features))
    return found if found.ndim == 2 else np.stack((-found, found), axis=1)


def _features(plan: Plan, signals: dict[str, int]) -> list[float]:
    knobs = [plan.window, plan.depth, plan.buffer_share, plan.share, plan.interval, plan.fraction]
    flags = [plan.replace, *(plan.prior == prior for prior in PRIORS)]
    return [
        *map(float, knobs),
        *map(float, flags),
        *(float(signals[k]) for k in (*SIGNALS, *COUNTERFACTUALS)),
    ]


def _fitted(
    kind: str, features: npt.NDArray[np.float64], labels: npt.NDArray[np.int64], weights: list[float]
) -> Any:
    """A pipeline that has learned."""
    try:
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import FunctionTransformer, StandardScaler

        model = _model(kind)
    except ImportError as error:
        how = "xgboost" if error.name == "xgboost" else "'rudder-gnn[pilot]'"
        raise ConfigError(f"classifier {kind} needs {error.name}: pip install {how}") from None
    # Signals go from units to hundreds: their logarithm, with its sign, lets the linear ones see both.
    flat = FunctionTransformer(_flattened)
    whole = make_pipeline(flat, StandardScaler(), model)
    name = whole.steps[-1][0]
    whole.fit(features, labels, **{f"{name}__sample_weight": np.array(weights)})
    return whole


def _flattened(features: Any) -> Any:
    return np.sign(features) * np.log1p(np.abs(features))


def _model(kind: str) -> Any:
    if kind == "logistic":
        from sklearn.linear_model import LogisticRegression

        return LogisticRegression(max_iter=500)
    if kind == "forest":
        from sklearn.ensemble import RandomForestClassifier

        # One job: the trainer's cores are not ours. 60 trees answer in 3 ms.
        return RandomForestClassifier(60, min_samples_leaf=3, n_jobs=1, random_state=_SEED)
    if kind == "mlp":
        from sklearn.neural_network import MLPClassifier

        return MLPClassifier((64, 32), early_stopping=True, max_iter=200, random_state=_SEED)
    if kind == "svm":
        from sklearn.svm import SVC

        return SVC(random_state=_SEED)
    from xgboost import XGBClassifier

    return XGBClassifier(n_estimators=80, max_depth=5, n_jobs=1, random_state=_SEED, verbosity=0)
