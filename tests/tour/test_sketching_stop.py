from io import BytesIO
from typing import get_args

import numpy as np
import pytest

from numcore.algorithms.tour import _stop, sketching
from numcore.algorithms.tour._stop import Block, Pictures, Table


@pytest.fixture(scope="module")
def patients():
    return sketching.Patients.load(8000)


def test_the_tour_finds_the_stop():
    assert _stop.load("sketching") is sketching.STOP


def test_the_patients_are_measurements_with_their_products(patients):
    A = patients.A
    assert A.shape == (8000, 65)
    assert np.all(A[:, 0] == 1)
    assert np.array_equal(np.unique(A[:, 2]), [1, 2])  # sex is not jittered
    products = {tuple(A[:3, i] * A[:3, j]) for i in range(1, 11) for j in range(i, 11) if i != 2 or j != 2}
    assert {tuple(column) for column in A[:3, 11:].T} == products
    # the jitter adds a hundredth to a variance; sampling, some per cent
    from sklearn.datasets import load_diabetes

    spread = load_diabetes(scaled=False).data.std(axis=0)
    np.testing.assert_allclose(A[:, 1:11].std(axis=0), spread, rtol=0.06)


def test_the_reference_is_closer_to_the_solution_than_float64_comes(patients):
    # a problem whose solution is known: the residual is orthogonal to all columns but for rounding of b
    rng = np.random.default_rng(0)
    A = rng.standard_normal((2000, 12)) * np.logspace(0, -6, 12)
    Q = np.linalg.qr(A)[0]
    r = rng.standard_normal(2000)
    r -= Q @ (Q.T @ r)
    r -= Q @ (Q.T @ r)
    x = np.arange(1.0, 13)
    small = sketching.Patients(A, A @ x + 1e-8 * r)
    found = small.reference(x * (1 + 1e-6), steps=3)
    np.testing.assert_allclose(found, x, rtol=2e-9)  # eps times the condition number, 1e6, and the size of b
    g = A.T.astype(np.longdouble) @ (small.b - A.astype(np.longdouble) @ found)
    assert np.max(np.abs(g)) < 1e-12


@pytest.mark.filterwarnings("ignore:.*ill-conditioned:UserWarning")
def test_all_contestants_solve_the_problem(patients):
    scores, _, _ = sketching.contest(patients, lambda _: None)
    error = {score.name: score.coefficients for score in scores}
    assert list(error) == list(sketching.makers(patients))
    # the condition number is 2e7 as it is and 1e4 when scaled; the normal equations square it
    assert error["numcore"] < 1e-10
    assert error["SciPy's lstsq"] < 1e-8
    assert error["Ridge, normal equations"] < 1e-5
    predictions = {score.name: score.predictions for score in scores}
    assert predictions["numcore"] < 1e-10
    assert predictions["numcore, one read"] < 0.5  # sqrt(d / m) is 0.16
    assert predictions["LinearRegression"] < 0.5


def test_stop_gives_blocks_with_three_drawings_and_a_line_for_each():
    from matplotlib.image import imread

    said = []
    blocks = sketching.run(said.append, n=8000, sizes=(2, 10))
    assert all(isinstance(block, get_args(Block)) for block in blocks)
    pictures = [picture for block in blocks if isinstance(block, Pictures) for picture in block.pictures]
    assert [imread(BytesIO(p.data), format="png").ndim for p in pictures] == [3] * 3
    (table,) = (block for block in blocks if isinstance(block, Table))
    assert [name for name, *_ in table.rows][:3] == ["numcore", "numcore, one read", "LinearRegression"]
    assert all(len(row) == len(table.heads) for row in table.rows)
    assert said[-1] == "drawing"


def test_a_lost_race_is_called_lost():
    quick, slow = sketching.Score("peer", 1.0, 1e-14, 0.0), sketching.Score("peer", 2.0, 1e-8, 0.0)
    won, lost = sketching.verdict(slow, quick), sketching.verdict(quick, slow)
    assert "numcore wins 2 to 1; in the coefficients numcore is closer, with an error of 1e-14 against 1e-08" in won
    assert "NUMCORE LOSES 1 to 2; in the coefficients NUMCORE IS FARTHER OFF" in lost
    assert "in time even; in the coefficients even" in sketching.verdict(quick, quick)
