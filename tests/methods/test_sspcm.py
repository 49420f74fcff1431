"""`sspcm`: the choice of the pair, outliers, the loss in float64, and the lagged copies."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import nn

from semipose.augment.masking import CutOcclude
from semipose.methods.base import StepInfo
from semipose.methods.sspcm import Config, OutlierConfig, Sspcm, inliers, most_consistent
from tests.methods import helpers, reference

SIZE = helpers.SIZE
LAST = StepInfo(3, 100, ends_epoch=True)


@pytest.fixture
def build():
    """(method, spy) with five different networks; `copied` says that an epoch has ended."""

    def make(copied=True, **options):
        spy = helpers.Spy()
        config = Config(**options)
        config.augmentations = [spy]
        method = Sspcm(config, helpers.make_context(SIZE))
        torch.manual_seed(7)
        with torch.no_grad():
            for parameter in method.parameters():  # the copies start as their teachers; a mix-up must show
                parameter.add_(0.05 * torch.randn_like(parameter))
        method.copied.fill_(copied)
        return method, spy

    return make


def same(network, before, *, weights_only=False):
    names = {n for n, _ in network.named_parameters()} if weights_only else before.keys()
    return all(torch.equal(network.state_dict()[n], before[n]) for n in names)


# ---- slow references


def peak(one):
    """(row, column) of the highest cell."""
    return np.array(np.unravel_index(one.argmax(), one.shape), dtype=float)


def looped_choice(maps1, maps2, before1, before2):
    """Which pair agrees best, (B, K), and its mean heatmap."""
    pairs = [(maps1, maps2), (before1, maps2), (maps1, before2), (before1, before2)]
    chosen, mean = np.zeros(maps1.shape[:2], dtype=int), np.zeros(maps1.shape)
    for b, k in np.ndindex(maps1.shape[:2]):
        best = np.inf
        for number, (a, other) in enumerate(pairs):
            squared = ((peak(a[b, k]) - peak(other[b, k])) ** 2).sum()
            if squared < best:  # the first of equals stays
                best, chosen[b, k], mean[b, k] = squared, number, (a[b, k] + other[b, k]) / 2
    return chosen, mean


def looped_inliers(a, b, criterion, min_peak, max_distance):
    """The weights of the teachers' two terms and of the student's."""
    teachers, student = np.ones(a.shape[:2]), np.ones(a.shape[:2])
    diagonal = np.hypot(*a.shape[-2:])
    for i in np.ndindex(a.shape[:2]):
        weak = (a[i].max() + b[i].max()) / 2 <= min_peak
        far = np.hypot(*(peak(a[i]) - peak(b[i]))) / diagonal >= max_distance
        if criterion in ("peak", "both") and weak:
            teachers[i] = student[i] = 0
        if criterion in ("distance", "both") and far:
            student[i] = 0
    return teachers, student


@st.composite
def four_maps(draw):
    """T1, T2, T1', T2': noise below 1 and one peak of 2 each, on a grid so small that ties abound."""
    batch, joints = draw(st.integers(1, 2)), draw(st.integers(1, 4))
    height, width = draw(st.integers(2, 4)), draw(st.integers(2, 4))
    count = 4 * batch * joints
    cells = draw(st.lists(st.integers(0, height * width - 1), min_size=count, max_size=count))
    maps = np.random.default_rng(draw(st.integers(0, 99))).random((count, height * width)).astype(np.float32)
    maps[np.arange(count), cells] = 2
    return torch.from_numpy(maps).view(4, batch, joints, height, width)


# ---- position-inconsistency correction


@settings(max_examples=150, deadline=None)
@given(four_maps())
def test_the_pair_that_agrees_best(maps):
    one, two, before1, before2 = maps
    chosen = most_consistent([(one, two), (before1, two), (one, before2), (before1, before2)])
    _, mean = looped_choice(*maps.double().numpy())
    np.testing.assert_allclose(chosen.numpy(), mean, rtol=1e-6)


def at(*cells, size=(12, 16)):
    """Heatmaps (1, K, h, w) of peak 1 at the given (row, column)."""
    maps = torch.zeros(1, len(cells), *size)
    for k, (row, column) in enumerate(cells):
        maps[0, k, row, column] = 1
    return maps


def test_of_equal_distances_the_first_pair_counts():
    """Joint by joint: all equal; the last three equal; the last two equal; the last nearest; 5 by 3-4 and by 5-0."""
    one = at((5, 5), (0, 0), (0, 0), (0, 0), (0, 0))
    two = at((5, 5), (4, 0), (4, 0), (4, 0), (3, 4))
    before1 = at((5, 5), (3, 0), (5, 0), (7, 0), (3, 9))
    before2 = at((5, 5), (1, 0), (0, 1), (7, 1), (8, 4))
    pairs = [(one, two), (before1, two), (one, before2), (before1, before2)]
    chosen = most_consistent(pairs)
    for k, number in enumerate([0, 1, 1, 3, 0]):
        assert torch.equal(chosen[0, k], (pairs[number][0] + pairs[number][1])[0, k] / 2), k


@pytest.mark.parametrize(
    ("columns", "pair"),
    [
        ((5, 5, 5, 5), ("T1", "T2")),  # all four agree
        ((5, 9, 5, 9), ("T1", "T2")),  # all four equally far
        ((5, 15, 14, 15), ("T1_before", "T2")),  # as near as (T1', T2')
        ((5, 9, 11, 3), ("T1_before", "T2")),  # as near as (T1, T2')
        ((5, 9, 3, 4), ("T1", "T2_before")),  # as near as (T1', T2')
        ((0, 9, 3, 4), ("T1_before", "T2_before")),
    ],
)
def test_the_method_orders_the_pairs(build, monkeypatch, columns, pair):
    """(T1,T2), (T1',T2), (T1,T2'), (T1',T2'): columns of the four peaks in one row; their heights tell them apart."""
    method, _ = build()
    names = ("T1", "T2", "T1_before", "T2_before")
    maps = {n: 10**i * at((5, column)) for i, (n, column) in enumerate(zip(names, columns, strict=True))}
    by_network = {id(getattr(method, n)): m for n, m in maps.items()}
    monkeypatch.setattr(type(method.context), "pseudo_heatmaps", lambda _, teacher, *__: by_network[id(teacher)])
    pseudo = method.pseudo_label(None, maps["T1"], maps["T2"])
    assert torch.equal(pseudo, (maps[pair[0]] + maps[pair[1]]) / 2)


# ---- outliers


def graded(cells, values, size=(12, 16)):
    """Maps (1, K, h, w), zero but for one value each; of a value of 0 the arg-max is the first cell."""
    maps = at(*cells, size=size)
    return maps * torch.tensor(values)[None, :, None, None]


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from(["peak", "distance", "both", "none"]),
    st.lists(
        st.tuples(*(st.tuples(st.integers(0, 11), st.integers(0, 15), st.integers(1, 16)) for _ in range(2))),
        min_size=1,
        max_size=6,
    ),
    st.integers(1, 16),
    st.integers(1, 20),
)
def test_inliers_for_all_criteria(criterion, joints, eighths, twentieths):
    """The map's diagonal is 20 cells and peaks are eighths, so that both thresholds are met exactly now and then."""
    first, second = zip(*joints, strict=True)
    a, b = (graded([c[:2] for c in cells], [c[2] / 8 for c in cells]) for cells in (first, second))
    config = OutlierConfig(criterion=criterion, min_peak=eighths / 8, max_distance=twentieths / 20)
    expected = looped_inliers(a.double().numpy(), b.double().numpy(), criterion, eighths / 8, twentieths / 20)
    for found, weights in zip(inliers(a, b, config), expected, strict=True):
        np.testing.assert_array_equal(found.numpy(), weights)


def test_at_the_threshold_a_joint_is_out():
    """12 of 20 cells at the default .6 are out, 11.4 are not; a mean peak of .1 is out, a little more is not."""
    cells = [(0, 0), (0, 0), (3, 3), (3, 3)]
    others = [(0, 12), (9, 7), (3, 3), (3, 3)]  # distances 12, 11.4, 0, 0
    a, b = graded(cells, [1.0, 1.0, 0.1, 0.15]), graded(others, [1.0, 1.0, 0.1, 0.0625])
    for criterion, expected in {
        "distance": ([1, 1, 1, 1], [0, 1, 1, 1]),
        "peak": ([1, 1, 0, 1], [1, 1, 0, 1]),
        "both": ([1, 1, 0, 1], [0, 1, 0, 1]),
        "none": ([1, 1, 1, 1], [1, 1, 1, 1]),
    }.items():
        kept = inliers(a, b, OutlierConfig(criterion=criterion))
        assert tuple(weights[0].tolist() for weights in kept) == expected, criterion
        assert {weights.dtype for weights in kept} == {torch.float32}
    assert [w[0].tolist() for w in inliers(a, b, OutlierConfig(min_peak=1, max_distance=2))] == [[0, 0, 0, 0]] * 2


def test_the_released_configuration_is_the_default():
    config = Config()
    assert (config.outliers.criterion, config.outliers.min_peak, config.outliers.max_distance) == ("peak", 0.1, 0.6)
    assert config.supervised_weight == 0.5
    assert config.lagged
    assert config.augmentations == [CutOcclude(joints=2)]
    for wrong in ({"outliers": {"criterion": "mean"}}, {"backbones": {"T3": "wide"}}, {"supervised_weight": -1}):
        with pytest.raises(ValidationError):
            Config(**wrong)


# ---- the loss


def outputs_of(networks, method):
    """The four teaching networks' heatmaps on the easy view, by its own statistics, float64."""
    easy = method.context.views.recording.easy[0].images.double()
    names = ("T1", "T2", "T1_before", "T2_before")
    return {n: copy.deepcopy(networks[n]).forward_main(easy).detach() for n in names}


def around(maps, spy):
    """The place in the order of making of the hard view that was augmented around the joints of `maps`."""
    joints, _ = reference.decode(maps)
    found = [i for i, j in enumerate(spy.joints) if np.allclose(j.numpy(), joints, atol=1e-4)]
    assert len(found) == 1
    return found[0]


def consistency(student, maps, method, which, weights=None):
    """‖student(hard_which) − M maps‖²; the hard image is the spy's, warped here."""
    recording = method.context.views.recording
    easy, matrix = recording.easy[0].images.double(), recording.hard[which].from_easy
    warped, seen = reference.warp_heatmaps(maps, matrix)
    return reference.mse(student(reference.warp(easy + 0.5 * (which + 1), matrix)), warped, weights, seen)


@pytest.mark.parametrize(
    ("options", "copied"),
    [
        ({}, True),
        ({}, False),
        ({"lagged": False}, True),
        ({"supervised_weight": 0.2, "unlabeled_weight": 3.0, "outliers": {"criterion": "none"}}, True),
        ({"outliers": {"criterion": "both", "min_peak": 1.6, "max_distance": 0.5}}, True),
        ({"outliers": {"criterion": "peak", "min_peak": 1.6}}, False),
        ({"outliers": {"criterion": "distance", "max_distance": 0.5}}, True),
    ],
)
def test_loss(build, batches, start, options, copied):
    labeled, unlabeled = batches
    method, spy = build(copied, **options)
    networks = helpers.doubles(method)
    inputs = {"T1": [], "T2": [], "S": []}
    for name, seen in inputs.items():
        getattr(method, name).register_forward_hook(lambda module, args, output, seen=seen: seen.append(args[0]))
    value = method.losses(labeled, unlabeled, start)
    recording, config = method.context.views.recording, method.config

    view = recording.labeled[0].view
    targets, weights = reference.targets(labeled, view, SIZE)
    three = sum(reference.mse(networks[n](view.images.double()), targets, weights) for n in ("T1", "T2", "S"))
    supervised = options.get("supervised_weight", 0.5) * three

    maps = outputs_of(networks, method)
    if copied and config.lagged:
        chosen, pseudo = looped_choice(*(m.numpy() for m in maps.values()))
        assert set(chosen.flatten()) == {0, 1, 2, 3}
        pseudo = torch.from_numpy(pseudo)
    else:
        pseudo = (maps["T1"] + maps["T2"]) / 2
    outliers = config.outliers
    both = maps["T1"].numpy(), maps["T2"].numpy()
    for_teachers, for_student = (
        torch.from_numpy(weights)
        for weights in looped_inliers(*both, outliers.criterion, outliers.min_peak, outliers.max_distance)
    )
    assert (for_student.min() == 0) == ("outliers" in options and outliers.criterion != "none")
    assert (for_teachers.min() == 0) == ("outliers" in options and outliers.criterion in ("peak", "both"))
    assert for_teachers.max() == for_student.max() == 1

    hard1, hard2, hard = (around(m, spy) for m in (maps["T1"], maps["T2"], pseudo))
    assert len(spy.joints) == 3
    assert all(torch.equal(recording.hard[0].from_easy, other.from_easy) for other in recording.hard[1:])
    for name, which in {"T1": hard2, "T2": hard1, "S": hard}.items():
        assert torch.equal(inputs[name][-1], recording.hard[which].images), name
    weight = options.get("unlabeled_weight", 1.0)
    expected = {
        "supervised": supervised,
        "unlabeled_1": weight * consistency(networks["T1"], maps["T2"], method, hard2, for_teachers),
        "unlabeled_2": weight * consistency(networks["T2"], maps["T1"], method, hard1, for_teachers),
        "unlabeled_s": weight * consistency(networks["S"], pseudo, method, hard, for_student),
    }
    assert value.terms.keys() == expected.keys()
    for name, term in expected.items():
        helpers.assert_close(value.terms[name], term)
    helpers.assert_close(value.total, sum(expected.values()))


def test_labels_alone_train_all_three(build, batches, start):
    labeled, _ = batches
    method, _ = build()
    value = method.losses(labeled, None, start)
    value.total.backward()
    for name in ("T1", "T2", "S"):
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in getattr(method, name).parameters())
    for name in ("T1_before", "T2_before"):
        assert all(p.grad is None for p in getattr(method, name).parameters())


def test_networks(build):
    method, _ = build(backbones={"T2": "wide", "S": "narrow"})
    assert method.context.views.recording.networks == [(None, 1), ("wide", 1), ("narrow", 1)]
    names = {name: network.backbone_name for name, network in method.named_children()}
    assert names == {"T1": None, "T2": "wide", "S": "narrow", "T1_before": None, "T2_before": "wide"}
    assert method.eval_networks() == {"S": method.S, "T1": method.T1, "T2": method.T2}
    assert method.headline_networks == ("S",)
    alike, _ = build()
    first = [getattr(alike, n).stem[0].weight for n in ("T1", "T2", "S")]
    assert not any(torch.equal(first[i], first[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


# ---- the lagged copies


def test_the_copies_follow_at_the_end_of_an_epoch_only_and_then_exactly(build, batches):
    labeled, unlabeled = batches
    method, _ = build(copied=False, teacher_mode="eval")
    optimizer = torch.optim.Adam([p for p in method.parameters() if p.requires_grad], lr=1e-2)
    for step in range(6):
        info = StepInfo(step, 100, ends_epoch=step % 3 == 2)
        before = {n: helpers.state(network) for n, network in method.named_children()}
        optimizer.zero_grad()
        method.losses(labeled, unlabeled, info).total.backward()
        optimizer.step()
        teachers = {n: helpers.state(getattr(method, n)) for n in ("T1", "T2", "S")}
        assert not same(method.T1, before["T1"])
        for name in ("T1_before", "T2_before"):
            assert same(getattr(method, name), before[name])  # taught in eval mode: no statistics either
        method.after_step(info)
        for name, copied in (("T1", method.T1_before), ("T2", method.T2_before)):
            assert any("running_var" in n for n in before[name + "_before"])
            assert same(copied, teachers[name] if info.ends_epoch else before[name + "_before"]), step
        assert bool(method.copied) is (step >= 2)
        assert all(same(getattr(method, n), teachers[n]) for n in teachers)
        assert not any(p.requires_grad for n in ("T1", "T2") for p in getattr(method, n + "_before").parameters())
    pointers = [p.data_ptr() for p in method.parameters()]
    assert len(set(pointers)) == len(pointers)


def test_with_the_batchs_statistics_the_copies_weights_stay_too(build, batches, start):
    """The default `teacher_mode: train`: running statistics may move, they are not used; the end makes all exact."""
    labeled, unlabeled = batches
    method, _ = build()
    before = helpers.state(method.T1_before)
    method.losses(labeled, unlabeled, start)
    method.after_step(start)
    assert same(method.T1_before, before, weights_only=True)
    method.after_step(LAST)
    assert same(method.T1_before, helpers.state(method.T1))
    assert same(method.T2_before, helpers.state(method.T2))


def test_the_first_epoch_takes_t1_and_t2_and_the_second_the_best_pair(build, batches):
    """Of the same networks: before and after the first end of an epoch."""
    _, unlabeled = batches
    method, _ = build(copied=False)
    easy = method.context.views.easy(unlabeled)
    maps = {n: copy.deepcopy(m).forward_main(easy.images).detach() for n, m in method.named_children()}
    first = method.pseudo_label(easy, maps["T1"], maps["T2"])
    torch.testing.assert_close(first, (maps["T1"] + maps["T2"]) / 2)
    method.copied.fill_(True)
    four = [maps[n].double().numpy() for n in ("T1", "T2", "T1_before", "T2_before")]
    chosen, mean = looped_choice(*four)
    assert len(set(chosen.flatten())) == 4
    np.testing.assert_allclose(method.pseudo_label(easy, maps["T1"], maps["T2"]).numpy(), mean, rtol=1e-4, atol=1e-5)


def test_a_loaded_state_knows_that_an_epoch_has_ended(build):
    first, _ = build(copied=False)
    first.after_step(LAST)
    second, _ = build(copied=False)
    second.load_state_dict(first.state_dict())
    assert bool(second.copied)


def test_without_lag_the_copies_take_no_part(build, batches, start):
    labeled, unlabeled = batches
    values = []
    for changed in (False, True):
        method, _ = build(lagged=False)
        if changed:
            for name in ("T1_before", "T2_before"):
                nn.init.zeros_(getattr(method, name).heads[0].weight)
        values.append(method.losses(labeled, unlabeled, start).total)
        before = helpers.state(method.T1_before)
        method.after_step(LAST)
        assert same(method.T1_before, before)
    assert values[0].equal(values[1])


@pytest.mark.parametrize(("step", "factor"), [(0, 0), (19, 0), (25, 0.25), (40, 1), (99, 1)])
def test_burn_in_then_ramp(build, batches, step, factor):
    labeled, unlabeled = batches
    method, _ = build(burn_in=0.2, ramp_up=0.2)
    full, _ = build()
    terms = method.losses(labeled, unlabeled, StepInfo(step, 100)).terms
    whole = full.losses(labeled, unlabeled, StepInfo(step, 100)).terms
    assert terms["supervised"] == whole["supervised"]
    for name in ("unlabeled_1", "unlabeled_2", "unlabeled_s"):
        if factor == 0:
            assert terms.get(name, 0) == 0
        else:
            torch.testing.assert_close(terms[name], factor * whole[name], rtol=1e-4, atol=0)
