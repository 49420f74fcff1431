"""Adaptive joint cutout against METHODS.md, section 2, item 2: the number of masks, and which of them are used."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from semipose.augment.masking import AdaptiveJointCutout, JointCutout, size_factor

SIZE = (32, 24)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def expected_counts(scores, m, gamma, floor, fewest):
    """Masks of each sample, one joint at a time; the rounding, half up, in whole numbers."""
    counts = []
    for peaks in np.asarray(scores, dtype=np.float64):
        highest, lowest = max(peaks), min(peaks)
        if highest < floor:
            counts.append(fewest)
            continue
        n = 0
        for peak in peaks:
            r = 0.0 if highest == lowest else (highest - peak) / (highest - lowest)
            n += r < gamma
        counts.append(max(fewest, (2 * n * m + len(peaks)) // (2 * len(peaks))))
    return counts


def distance_to_gamma(scores, gamma):
    """How near the closest joint comes to the border between easy and hard."""
    high, low = scores.max(axis=1, keepdims=True), scores.min(axis=1, keepdims=True)
    span = np.where(high > low, high - low, 1)
    return np.abs((high - scores) / span - gamma).min()


grid = st.integers(0, 16).map(lambda i: i / 16)
"""Coarse peaks: ties are common, and every r that equals gamma does so exactly."""
fine = st.floats(0, 1.5, allow_subnormal=False)


@st.composite
def peaks(draw, values):
    """Peak values (B, K) of which some samples are flat and some extremely hard."""
    batch, count = draw(st.integers(1, 5)), draw(st.integers(1, 17))
    rows = []
    for _ in range(batch):
        kind = draw(st.sampled_from(["any", "any", "any", "equal", "faint"]))
        row = draw(st.lists(values, min_size=count, max_size=count))
        if kind == "equal":
            row = row[:1] * count
        rows.append([value / 32 for value in row] if kind == "faint" else row)
    return np.array(rows)


settings_of_counts = {
    "m": st.integers(1, 14),
    "gamma": st.sampled_from([0.125, 0.25, 0.3, 0.5, 0.75, 1.0]),
    "floor": st.sampled_from([0.0, 0.0625, 0.1, 0.3]),
    "fewest": st.integers(0, 4),
}


@settings(max_examples=300, deadline=None)
@given(scores=peaks(grid), **settings_of_counts)
def test_counts_with_ties(scores, m, gamma, floor, fewest):
    kind = AdaptiveJointCutout(joints=m, gamma=gamma, floor=floor, fewest=fewest)
    found = kind.counts(torch.from_numpy(scores))
    assert found.dtype == torch.long
    assert found.tolist() == expected_counts(scores, m, gamma, floor, fewest)


@settings(max_examples=200, deadline=None)
@given(scores=peaks(fine), **settings_of_counts)
def test_counts_in_single_precision(scores, m, gamma, floor, fewest):
    scores = scores.astype(np.float32)
    exact = scores.astype(np.float64)
    assume(distance_to_gamma(exact, gamma) > 1e-5)
    assume(np.abs(exact.max(axis=1) - floor).min() > 1e-6)
    kind = AdaptiveJointCutout(joints=m, gamma=gamma, floor=floor, fewest=fewest)
    assert kind.counts(torch.from_numpy(scores)).tolist() == expected_counts(exact, m, gamma, floor, fewest)


@pytest.mark.parametrize(
    ("peaks", "count"),
    [
        ([0.9, 0.9, 0.9, 0.9], 8),  # equal: all easy
        ([0.9, 0.8, 0.2, 0.1], 4),
        ([0.5, 0.25, 0.25, 0.0], 2),  # r = gamma is not easy
        ([1.0, 0.0, 0.0, 0.0], 2),
        ([0.09, 0.09, 0.09, 0.09], 2),  # extremely hard, though equal
        ([0.1, 0.1, 0.1, 0.1], 8),  # at the floor: not lower
        ([0.0, 0.0, 0.0, 0.0], 2),
        ([0.9], 8),
    ],
)
def test_counts_by_hand(peaks, count):
    assert AdaptiveJointCutout().counts(torch.tensor([peaks])).tolist() == [count]


def test_counts_round_half_up():
    """K = 4: 10/4 = 2.5 and 30/4 = 7.5 masks, one and three easy joints of four."""
    scores = torch.tensor([[1.0, 0, 0, 0], [1.0, 1, 1, 0]])
    assert AdaptiveJointCutout(joints=10).counts(scores).tolist() == [3, 8]


@settings(max_examples=50, deadline=None)
@given(scores=peaks(grid), scale=st.sampled_from([0.5, 2.0, 64.0]))
def test_counts_know_the_scale_by_the_floor_only(scores, scale):
    kind = AdaptiveJointCutout(floor=0)
    assert torch.equal(kind.counts(torch.from_numpy(scores)), kind.counts(torch.from_numpy(scores * scale)))


@pytest.fixture
def batch():
    """Images (6, 3, 32, 24), joints (6, 14, 2) reaching over the border, scores from all easy to extremely hard."""
    draw = np.random.default_rng(4)
    images = torch.from_numpy(draw.normal(size=(6, 3, *SIZE)))
    scores = np.full((6, 14), 0.9)
    for b, hard in enumerate([0, 4, 8, 11, 13]):
        scores[b, draw.permutation(14)[:hard]] = 0.2
    scores[5] = 0.05
    return images, torch.from_numpy(draw.uniform((-4, -4), (28, 36), (6, 14, 2))), torch.from_numpy(scores)


@pytest.mark.parametrize("change", [{}, {"joints": 12}, {"joints": 1, "fewest": 3}, {"jitter": 0.0}, {"fewest": 0}])
def test_call(batch, change):
    """Every sample draws the same number of masks and uses the first n of them."""
    images, joints, scores = batch
    kind = AdaptiveJointCutout(half_size_min=12, half_size_max=26, **change)
    found = kind(images, joints, scores, generator(7))
    m, fewest = change.get("joints", 8), change.get("fewest", 2)
    drawn = max(m, fewest)
    draw = generator(7)
    chosen = torch.randint(14, (6, drawn), generator=draw)
    noise = torch.randn((6, drawn, 2), generator=draw).double().numpy()
    factor = np.sqrt(SIZE[0] * SIZE[1] / (256 * 192))
    assert size_factor(images) == pytest.approx(factor)
    halves = torch.randint(round(12 * factor), round(26 * factor) + 1, (6, drawn), generator=draw).numpy()
    counts = expected_counts(scores, m, 0.5, 0.1, fewest)
    assert len(set(counts)) > 1 or m == 1
    expected = images.clone().numpy()
    for b in range(6):
        for n in range(counts[b]):
            x0, y0 = np.round(joints[b, chosen[b, n]].numpy() + noise[b, n] * kind.jitter * factor)
            for y in range(SIZE[0]):
                for x in range(SIZE[1]):
                    if abs(x - x0) <= halves[b, n] and abs(y - y0) <= halves[b, n]:
                        expected[b, :, y, x] = 0
    np.testing.assert_array_equal(found.numpy(), expected)


def hidden(kind, scores, seed):
    """Which pixels are gone from white images of this many samples, (B, H, W), at joints spread alike."""
    images = torch.ones(len(scores), 3, 64, 48)
    joints = torch.rand((len(scores), scores.shape[1], 2), generator=generator(100 + seed)) * torch.tensor([48, 64])
    return kind(images, joints, scores, generator(seed))[:, 0] == 0


@pytest.mark.parametrize("seed", range(3))
def test_easier_samples_lose_what_harder_ones_lose_and_more(seed):
    """The same draws with one more joint easy: masks are added and none moves."""
    kind, before, counts = AdaptiveJointCutout(), torch.zeros(4, 64, 48, dtype=torch.bool), []
    for easy in range(1, 18):
        scores = torch.full((4, 17), 0.2)
        scores[:, :easy] = 0.9
        now = hidden(kind, scores, seed)
        assert (now | ~before).all()
        before = now
        counts.append(kind.counts(scores)[0].item())
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (2, 8)


def test_confident_samples_are_hidden_more():
    """Side by side in one batch: area falls from all easy over half easy to extremely hard."""
    scores = torch.full((300, 16), 0.9)
    scores[100:200, ::2] = 0.1
    scores[200:] = 0.05
    area = hidden(AdaptiveJointCutout(), scores, 0).float().mean(dim=(1, 2)).view(3, 100).mean(dim=1)
    assert area[0] > 1.4 * area[1]
    assert area[1] > 1.4 * area[2]
    assert area[2] > 0.01


def test_all_easy_is_plain_joint_cutout():
    images, joints = torch.ones(3, 3, 64, 48), torch.rand((3, 17, 2), generator=generator()) * 48
    scores = torch.full((3, 17), 0.7)
    adaptive = AdaptiveJointCutout(joints=8)(images, joints, scores, generator(1))
    assert torch.equal(adaptive, JointCutout(joints=8)(images, joints, scores, generator(1)))


@pytest.mark.parametrize("change", [{"gamma": 0.0}, {"gamma": 1.1}, {"joints": 0}, {"fewest": -1}, {"floor": -0.1}])
def test_settings_out_of_range(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        AdaptiveJointCutout(**change)
