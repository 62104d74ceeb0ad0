"""Dense Hebbian memories and Hopfield networks, old and modern, and the statistical mechanics that predicts them."""

from numcore.algorithms.hebbian.annealing import AnnealResult, anneal
from numcore.algorithms.hebbian.bounds import Bounds, capacity_bound, retrieval_bounds, separation_margin
from numcore.algorithms.hebbian.capacity import CapacityCurve, capacity_curve
from numcore.algorithms.hebbian.displays import (
    CapacityDisplay,
    PhaseDiagramDisplay,
    RetrievalDisplay,
    TemperingDisplay,
)
from numcore.algorithms.hebbian.energy import energy, local_fields, overlaps
from numcore.algorithms.hebbian.estimators import (
    DenseHebbianMemory,
    HopfieldNetwork,
    ModernHopfield,
    ModernHopfieldClassifier,
    ModernHopfieldRegressor,
)
from numcore.algorithms.hebbian.examples import (
    HebbianPatterns,
    binarize,
    dataset_entropy,
    hebbian_patterns,
    make_archetypes,
    make_examples,
)
from numcore.algorithms.hebbian.mean_field import MeanFieldResult, mean_field
from numcore.algorithms.hebbian.one_step import detection_threshold, krotov_hopfield_error, one_step_magnetization
from numcore.algorithms.hebbian.pairwise import hopfield_weights, recall_pairwise, sample_pairwise
from numcore.algorithms.hebbian.phase_diagram import PhaseDiagram, phase_diagram
from numcore.algorithms.hebbian.pooling import hopfield_pooling
from numcore.algorithms.hebbian.recall import RecallResult, recall
from numcore.algorithms.hebbian.retrieval import RetrievalResult, hopfield_energy, retrieve
from numcore.algorithms.hebbian.sampling import SampleResult, sample
from numcore.algorithms.hebbian.tempering import TemperingResult, parallel_tempering
from numcore.algorithms.hebbian.theory import PhaseState, critical_load, glass_transition, self_consistency
from numcore.diagnostics import AutocorrelationResult, autocorrelation_time, binder_cumulant, jackknife

__all__ = [
    "AnnealResult",
    "AutocorrelationResult",
    "Bounds",
    "CapacityCurve",
    "CapacityDisplay",
    "DenseHebbianMemory",
    "HebbianPatterns",
    "HopfieldNetwork",
    "MeanFieldResult",
    "ModernHopfield",
    "ModernHopfieldClassifier",
    "ModernHopfieldRegressor",
    "PhaseDiagram",
    "PhaseDiagramDisplay",
    "PhaseState",
    "RecallResult",
    "RetrievalDisplay",
    "RetrievalResult",
    "SampleResult",
    "TemperingDisplay",
    "TemperingResult",
    "anneal",
    "autocorrelation_time",
    "binarize",
    "binder_cumulant",
    "capacity_bound",
    "capacity_curve",
    "critical_load",
    "dataset_entropy",
    "detection_threshold",
    "energy",
    "glass_transition",
    "hebbian_patterns",
    "hopfield_energy",
    "hopfield_pooling",
    "hopfield_weights",
    "jackknife",
    "krotov_hopfield_error",
    "local_fields",
    "make_archetypes",
    "make_examples",
    "mean_field",
    "one_step_magnetization",
    "overlaps",
    "parallel_tempering",
    "phase_diagram",
    "recall",
    "recall_pairwise",
    "retrieval_bounds",
    "retrieve",
    "sample",
    "sample_pairwise",
    "self_consistency",
    "separation_margin",
]
