import numpy as np
import pytest
import torch
from dense_problem import SHAPE, VOXELS, Dense, flat, random_dense, states_of, volume

from manyviews.solvers.consensus import Consensus, Together
from manyviews.solvers.proximal_maps import DataTerm, NonNegative, PrintedGradientSteps, Smoothness
from manyviews.solvers.space import Space

ROWS = 60
SPACE = Space.like(torch.zeros(SHAPE, dtype=torch.float64))


def overlapping_parts(dense, count=4, overlap=5, weighted=True):
    """Rows in blocks that borrow from the next one; ``weighted``: each row counts once in all."""
    blocks = [list(block) for block in np.array_split(np.arange(ROWS), count)]
    held = [block + blocks[(k + 1) % count][:overlap] for k, block in enumerate(blocks)]
    multiplicity = np.bincount(np.concatenate(held), minlength=ROWS)
    share = 1.0 / multiplicity if weighted else np.ones(ROWS)
    return [
        Dense(dense.matrix[rows], dense.data[rows], dense.weights[rows] * share[rows], dense.damping / count)
        for rows in held
    ]


def consensus(parts, *, mann=0.8, anchor=10.0, steps=8, priors=(), objective=lambda x: 0.0):
    problems = [part.least_squares() for part in parts]
    agents = [DataTerm(problem.hessian, problem.target, anchor, steps) for problem in problems]
    return Consensus([*agents, *priors], SPACE, mann=mann, objective=objective, passes_per_iteration=2.0)


def printed(parts, relaxation=0.3, steps=10):
    agents = [
        PrintedGradientSteps(
            lambda x, part=part: volume(part.gradient(x)), relaxation / part.lipschitz, steps
        )
        for part in parts
    ]
    return Consensus(agents, SPACE, mann=0.8, objective=lambda x: 0.0, passes_per_iteration=float(steps))


def distance(state, answer):
    return float(np.linalg.norm(flat(state.iterate) - answer) / np.linalg.norm(answer))


@pytest.mark.parametrize("damping", [0.0, 8.0])
@pytest.mark.parametrize("mann", [0.3, 0.8])
def test_the_fixed_point_is_the_weighted_least_squares_answer(damping, mann):
    """Whatever the Mann factor, with subsets that share rows."""
    dense = random_dense(damping=damping)
    last = states_of(consensus(overlapping_parts(dense), mann=mann), 150)[-1]
    assert distance(last, dense.answer()) < 1e-6
    assert last.disagreement < 1e-6
    for answer in last.answers:
        assert flat(answer) == pytest.approx(flat(last.iterate), abs=1e-5)


@pytest.mark.parametrize("anchor", [4.0, 30.0])
def test_the_fixed_point_does_not_depend_on_the_anchor(anchor):
    dense = random_dense()
    last = states_of(consensus(overlapping_parts(dense), anchor=anchor), 120)[-1]
    assert distance(last, dense.answer()) < 1e-6


def test_a_few_warm_started_steps_reach_the_same_fixed_point():
    dense = random_dense()
    last = states_of(consensus(overlapping_parts(dense), steps=2), 70)[-1]
    assert distance(last, dense.answer()) < 1e-6


def test_shared_rows_at_full_weight_shift_the_fixed_point():
    dense = random_dense()
    last = states_of(consensus(overlapping_parts(dense, weighted=False)), 60)[-1]
    assert distance(last, dense.answer()) > 0.02


@pytest.mark.parametrize(("count", "overlap"), [(4, 5), (6, 0)])
def test_the_printed_algorithm_settles_elsewhere(count, overlap):
    """Algorithm 1 of the paper has no anchor: the least-squares answer is no fixed point of it."""
    dense = random_dense()
    parts = overlapping_parts(dense, count=count, overlap=overlap)
    away = [distance(state, dense.answer()) for state in states_of(printed(parts), 120)]
    assert away[-1] > 0.05
    assert away[-1] == pytest.approx(away[-50], rel=1e-3)
    good = states_of(consensus(parts), 70)[-1]
    assert distance(good, dense.answer()) < 1e-6


def test_the_printed_algorithm_drifts_away():
    """With many subsets it comes close to the least-squares answer, and run on it moves away again."""
    dense = random_dense()
    parts = overlapping_parts(dense, count=20, overlap=0)
    away = [distance(state, dense.answer()) for state in states_of(printed(parts), 120)]
    nearest = int(np.argmin(away))
    assert nearest < 50
    assert away[-1] > 1.2 * away[nearest]


def test_one_agent_alone_converges_to_its_own_answer():
    dense = random_dense()
    last = states_of(consensus([dense]), 40)[-1]
    assert distance(last, dense.answer()) < 1e-6


def test_priors_join_in():
    """A smoothness agent adds its term to the objective: least squares with that term is the fixed point."""
    dense, strength, anchor = random_dense(), 30.0, 10.0
    agent = Smoothness(strength / anchor, steps=VOXELS)
    identity = np.eye(VOXELS)
    # columns of I + s D'D, from the agent's inverse
    inverse = np.stack([flat(agent.prox(volume(unit), volume(unit))) for unit in identity], axis=1)
    prior_hessian = anchor * (np.linalg.inv(inverse) - identity)
    expected = np.linalg.solve(dense.normal_matrix + prior_hessian, dense.back_projection)
    last = states_of(consensus(overlapping_parts(dense), anchor=anchor, priors=[agent]), 120)[-1]
    assert distance(last, expected) < 1e-5


def test_a_non_negative_agent_leads_to_the_constrained_answer():
    dense = random_dense()
    parts = overlapping_parts(dense)
    last = states_of(consensus(parts, priors=[NonNegative()]), 150)[-1]
    found = flat(last.iterate)
    assert (dense.answer() < -0.1).any()
    assert found.min() > -1e-6
    descent = dense.gradient(found)
    assert np.abs(descent[found > 1e-4]).max() < 1e-3
    assert descent.max() < 1e-3


def test_the_record_of_an_iteration():
    dense = random_dense()
    solver = consensus(overlapping_parts(dense), objective=dense.objective)
    states = states_of(solver, 3)
    for number, state in enumerate(states):
        assert state.iteration == number
        assert state.measures() == {
            "objective": dense.objective(state.iterate),
            "disagreement": state.disagreement,
            "data_passes": 2.0 * number,
        }
    assert states[0].disagreement == 0.0 < states[1].disagreement


def test_agents_of_two_groups_of_processes_agree_as_if_they_were_together():
    """The groups take turns: what the other one sent is known from a run with all agents in one place."""
    parts = overlapping_parts(random_dense())
    solver = consensus(parts)
    wanted = states_of(solver, 2)

    class OtherGroup:
        def __init__(self, others):
            self.others, self.sums = others, 0

        def sum(self, tensor):
            self.sums += 1
            if tensor.ndim == 1:
                return tensor
            return tensor + sum(wanted[1].states[other] for other in self.others)

    groups = OtherGroup((2, 3))
    half = Consensus(
        solver.maps[:2],
        SPACE,
        mann=0.8,
        objective=solver.objective,
        passes_per_iteration=2.0,
        together=Together(4, groups),
    )
    found = half.step(half.init())
    assert found.iterate == pytest.approx(wanted[1].iterate)
    assert groups.sums == 2


def test_the_mean_leaves_its_volumes():
    volumes = [torch.full((1, 1, 2), float(n)) for n in (1, 2, 6)]
    mean = Together(3).mean(volumes, Space.like(volumes[0]))
    assert torch.equal(mean, torch.full((1, 1, 2), 3.0))
    assert [float(x[0, 0, 0]) for x in volumes] == [1.0, 2.0, 6.0]


def test_a_group_without_agents_adds_nothing():
    start = torch.ones((1, 1, 2))
    assert not Together(3).mean([], Space.like(start)).any()
