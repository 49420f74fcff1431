"""Joint cutout, adaptive joint cutout (AKM, section 3.2), cut-occlude, cutout and its patches against slow loops."""

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from semipose.augment.masking import AdaptiveJointCutout, CutOcclude, Cutout, CutoutPatches, JointCutout, size_factor

SIZE = (32, 24)
LARGER = (64, 48)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def expected_num_patches(scores, m, gamma, hard_peak, min_joints):
    """Counts the easy joints one by one and rounds half up in integers."""
    counts = []
    for peaks in np.asarray(scores, dtype=np.float64):
        highest, lowest = max(peaks), min(peaks)
        if highest < hard_peak:
            counts.append(min_joints)
            continue
        n = 0
        for peak in peaks:
            r = 0.0 if highest == lowest else (highest - peak) / (highest - lowest)
            n += r < gamma
        counts.append(max(min_joints, (2 * n * m + len(peaks)) // (2 * len(peaks))))
    return counts


def distance_to_gamma(scores, gamma):
    """Returns the distance of the closest joint from the threshold between easy and hard."""
    high, low = scores.max(axis=1, keepdims=True), scores.min(axis=1, keepdims=True)
    span = np.where(high > low, high - low, 1)
    return np.abs((high - scores) / span - gamma).min()


grid = st.integers(0, 16).map(lambda i: i / 16)
"""Coarse peak values: ties are common, and an r equal to gamma is so exactly."""
fine = st.floats(0, 1.5, allow_subnormal=False)


@st.composite
def peak_values(draw, values):
    """Peak values (B, K); some samples have equal peaks and some are extremely hard."""
    batch, count = draw(st.integers(1, 5)), draw(st.integers(1, 17))
    rows = []
    for _ in range(batch):
        kind = draw(st.sampled_from(["any", "any", "any", "equal", "faint"]))
        row = draw(st.lists(values, min_size=count, max_size=count))
        if kind == "equal":
            row = row[:1] * count
        rows.append([value / 32 for value in row] if kind == "faint" else row)
    return np.array(rows)


options = {
    "m": st.integers(1, 14),
    "gamma": st.sampled_from([0.125, 0.25, 0.3, 0.5, 0.75, 1.0]),
    "hard_peak": st.sampled_from([0.0, 0.0625, 0.1, 0.3]),
    "min_joints": st.integers(0, 4),
}


@settings(max_examples=300, deadline=None)
@given(scores=peak_values(grid), **options)
def test_num_patches_with_ties(scores, m, gamma, hard_peak, min_joints):
    kind = AdaptiveJointCutout(joints=m, gamma=gamma, hard_peak=hard_peak, min_joints=min_joints)
    found = kind.num_patches(torch.from_numpy(scores))
    assert found.dtype == torch.long
    assert found.tolist() == expected_num_patches(scores, m, gamma, hard_peak, min_joints)


@settings(max_examples=200, deadline=None)
@given(scores=peak_values(fine), **options)
def test_num_patches_in_float32(scores, m, gamma, hard_peak, min_joints):
    scores = scores.astype(np.float32)
    exact = scores.astype(np.float64)
    assume(distance_to_gamma(exact, gamma) > 1e-5)
    assume(np.abs(exact.max(axis=1) - hard_peak).min() > 1e-6)
    kind = AdaptiveJointCutout(joints=m, gamma=gamma, hard_peak=hard_peak, min_joints=min_joints)
    assert kind.num_patches(torch.from_numpy(scores)).tolist() == expected_num_patches(
        exact, m, gamma, hard_peak, min_joints
    )


@pytest.mark.parametrize(
    ("peaks", "count"),
    [
        ([0.9, 0.9, 0.9, 0.9], 8),  # equal: all easy
        ([0.9, 0.8, 0.2, 0.1], 4),
        ([0.5, 0.25, 0.25, 0.0], 2),  # r = gamma is not easy
        ([1.0, 0.0, 0.0, 0.0], 2),
        ([0.09, 0.09, 0.09, 0.09], 2),  # extremely hard, although equal
        ([0.1, 0.1, 0.1, 0.1], 8),  # not below hard_peak
        ([0.0, 0.0, 0.0, 0.0], 2),
        ([0.9], 8),
    ],
)
def test_num_patches_by_hand(peaks, count):
    assert AdaptiveJointCutout().num_patches(torch.tensor([peaks])).tolist() == [count]


def test_num_patches_rounds_half_up():
    """One and three easy joints of four, 10/4 = 2.5 and 30/4 = 7.5 patches."""
    scores = torch.tensor([[1.0, 0, 0, 0], [1.0, 1, 1, 0]])
    assert AdaptiveJointCutout(joints=10).num_patches(scores).tolist() == [3, 8]


@settings(max_examples=50, deadline=None)
@given(scores=peak_values(grid), scale=st.sampled_from([0.5, 2.0, 64.0]))
def test_num_patches_depends_on_the_scale_through_hard_peak_only(scores, scale):
    kind = AdaptiveJointCutout(hard_peak=0)
    assert torch.equal(kind.num_patches(torch.from_numpy(scores)), kind.num_patches(torch.from_numpy(scores * scale)))


@pytest.fixture
def batch():
    """Images (6, 3, 32, 24), joints (6, 14, 2) also outside the image, scores from all easy to extremely hard."""
    draw = np.random.default_rng(4)
    images = torch.from_numpy(draw.normal(size=(6, 3, *SIZE)))
    scores = np.full((6, 14), 0.9)
    for b, hard in enumerate([0, 4, 8, 11, 13]):
        scores[b, draw.permutation(14)[:hard]] = 0.2
    scores[5] = 0.05
    return images, torch.from_numpy(draw.uniform((-4, -4), (28, 36), (6, 14, 2))), torch.from_numpy(scores)


@pytest.mark.parametrize(
    "change", [{}, {"joints": 12}, {"joints": 1, "min_joints": 3}, {"jitter": 0.0}, {"min_joints": 0}]
)
def test_adaptive_joint_cutout(batch, change):
    """Every sample draws the same number of patches and uses the first ones."""
    images, joints, scores = batch
    kind = AdaptiveJointCutout(half_size_min=12, half_size_max=26, **change)
    found = kind(images, joints, scores, generator(7))
    m, min_joints = change.get("joints", 8), change.get("min_joints", 2)
    drawn = max(m, min_joints)
    draw = generator(7)
    chosen = torch.randint(14, (6, drawn), generator=draw)
    noise = torch.randn((6, drawn, 2), generator=draw).double().numpy()
    factor = np.sqrt(SIZE[0] * SIZE[1] / (256 * 192))
    assert size_factor(images) == pytest.approx(factor)
    halves = torch.randint(round(12 * factor), round(26 * factor) + 1, (6, drawn, 2), generator=draw).numpy()
    counts = expected_num_patches(scores, m, 0.5, 0.1, min_joints)
    assert len(set(counts)) > 1 or m == 1
    expected = images.clone().numpy()
    for b in range(6):
        for n in range(counts[b]):
            x0, y0 = np.round(joints[b, chosen[b, n]].numpy() + noise[b, n] * kind.jitter * factor)
            for y in range(SIZE[0]):
                for x in range(SIZE[1]):
                    if abs(x - x0) <= halves[b, n, 0] and abs(y - y0) <= halves[b, n, 1]:
                        expected[b, :, y, x] = 0
    np.testing.assert_array_equal(found.numpy(), expected)


def covered(kind, scores, seed):
    """Returns which pixels of white images are covered, (B, H, W)."""
    images = torch.ones(len(scores), 3, 64, 48)
    joints = torch.rand((len(scores), scores.shape[1], 2), generator=generator(100 + seed)) * torch.tensor([48, 64])
    return kind(images, joints, scores, generator(seed))[:, 0] == 0


@pytest.mark.parametrize("seed", range(3))
def test_one_more_easy_joint_adds_patches_and_moves_none(seed):
    kind, before, counts = AdaptiveJointCutout(), torch.zeros(4, 64, 48, dtype=torch.bool), []
    for easy in range(1, 18):
        scores = torch.full((4, 17), 0.2)
        scores[:, :easy] = 0.9
        now = covered(kind, scores, seed)
        assert (now | ~before).all()
        before = now
        counts.append(kind.num_patches(scores)[0].item())
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (2, 8)


def test_easy_samples_are_covered_more():
    scores = torch.full((300, 16), 0.9)
    scores[100:200, ::2] = 0.1
    scores[200:] = 0.05
    area = covered(AdaptiveJointCutout(), scores, 0).float().mean(dim=(1, 2)).view(3, 100).mean(dim=1)
    assert area[0] > 1.4 * area[1]
    assert area[1] > 1.4 * area[2]
    assert area[2] > 0.01


def test_all_joints_easy_equals_joint_cutout():
    images, joints = torch.ones(3, 3, 64, 48), torch.rand((3, 17, 2), generator=generator()) * 48
    scores = torch.full((3, 17), 0.7)
    adaptive = AdaptiveJointCutout(joints=8)(images, joints, scores, generator(1))
    assert torch.equal(adaptive, JointCutout(joints=8)(images, joints, scores, generator(1)))


@pytest.mark.parametrize(
    "change", [{"gamma": 0.0}, {"gamma": 1.1}, {"joints": 0}, {"min_joints": -1}, {"hard_peak": -0.1}]
)
def test_options_out_of_range_raise(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        AdaptiveJointCutout(**change)


@pytest.fixture
def images_and_joints():
    """Images (4, 3, 64, 48), joints (4, 14, 2) also outside the image, scores."""
    draw = np.random.default_rng(0)
    images = torch.from_numpy(draw.normal(size=(4, 3, *LARGER)))
    return images, torch.from_numpy(draw.uniform((-6, -6), (54, 70), (4, 14, 2))), torch.ones(4, 14)


def inside(x, y, center, half):
    return abs(x - center[0]) <= half[0] and abs(y - center[1]) <= half[1]


def pixels():
    return ((y, x) for y in range(LARGER[0]) for x in range(LARGER[1]))


@pytest.mark.parametrize("jitter", [0.0, 10.0])
def test_joint_cutout(images_and_joints, jitter):
    images, joints, scores = images_and_joints
    found = JointCutout(jitter=jitter)(images, joints, scores, generator())
    draw = generator()
    chosen = torch.randint(14, (4, 5), generator=draw)
    noise = torch.randn((4, 5, 2), generator=draw).double().numpy()
    factor = size_factor(images)
    halves = torch.randint(round(10 * factor), round(19 * factor) + 1, (4, 5, 2), generator=draw).numpy()
    assert (halves[..., 0] != halves[..., 1]).any()
    expected = images.clone().numpy()
    for b in range(4):
        for n in range(5):
            center = np.round(joints[b, chosen[b, n]].numpy() + noise[b, n] * jitter * factor)
            for y, x in pixels():
                if inside(x, y, center, halves[b, n]):
                    expected[b, :, y, x] = 0
    np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("cutout", [JointCutout, lambda **sizes: AdaptiveJointCutout(min_joints=1, **sizes)])
def test_widths_and_heights_are_drawn_apart(cutout):
    """One patch in the middle of 64×48 pixels, half-sizes 4 to 13: every width and height, uncorrelated."""
    images, joints = torch.ones(2000, 3, *LARGER), torch.tensor([24.0, 32.0]).expand(2000, 1, 2)
    factor = size_factor(images)
    kind = cutout(joints=1, jitter=0, half_size_min=round(4 / factor), half_size_max=round(13 / factor))
    hidden = kind(images, joints, torch.ones(2000, 1), generator(3))[:, 0] == 0
    widths, heights = (hidden.any(dim=axis).sum(dim=1).double().numpy() for axis in (1, 2))
    assert set(widths) == set(heights) == {2.0 * half + 1 for half in range(4, 14)}
    assert abs(np.corrcoef(widths, heights)[0, 1]) < 4 / np.sqrt(2000)
    assert (hidden.sum(dim=(1, 2)).double().numpy() == widths * heights).all()


def test_cut_occlude(images_and_joints):
    """One donor a sample; centers in both images are a joint and the jitter of joint cutout."""
    images, joints, scores = images_and_joints
    found = CutOcclude(joints=3)(images, joints, scores, generator(2))
    draw = generator(2)
    factor = size_factor(images)

    def centers_near(some):
        chosen = torch.randint(14, (4, 3), generator=draw)
        noise = torch.randn((4, 3, 2), generator=draw).double().numpy()
        near = [[some[b, chosen[b, n]].numpy() + noise[b, n] * 10 * factor for n in range(3)] for b in range(4)]
        return np.round(near).astype(int)

    donor = (torch.arange(4) + torch.randint(1, 4, (4,), generator=draw)) % 4
    centers, origins = centers_near(joints), centers_near(joints[donor])
    halves = torch.randint(round(10 * factor), round(19 * factor) + 1, (4, 3, 2), generator=draw).numpy()
    source, expected = images.numpy(), images.clone().numpy()
    for b in range(4):
        assert donor[b] != b
        for n in range(3):
            center, start = centers[b, n], origins[b, n]
            for y, x in pixels():
                from_x, from_y = x - center[0] + start[0], y - center[1] + start[1]
                exists = 0 <= from_x < LARGER[1] and 0 <= from_y < LARGER[0]
                if inside(x, y, center, halves[b, n]) and exists:
                    expected[b, :, y, x] = source[donor[b], :, from_y, from_x]
    np.testing.assert_array_equal(found.numpy(), expected)


def test_cut_occlude_takes_all_patches_of_a_sample_from_one_other():
    """Images of one number each: a sample shows its own number and that of one donor."""
    images = torch.arange(1.0, 9.0).view(8, 1, 1, 1).expand(8, 3, *LARGER)
    joints = torch.rand((8, 14, 2), generator=generator(1)) * torch.tensor([48.0, 64.0])
    donors = set()
    for seed in range(20):
        found = CutOcclude(joints=6)(images, joints, torch.ones(8, 14), generator(seed))
        for b in range(8):
            others = set(found[b].unique().tolist()) - {b + 1.0}
            assert len(others) <= 1
            donors |= {(b, other) for other in others}
    assert len(donors) > 40


def test_cutout(images_and_joints):
    images, joints, scores = images_and_joints
    found = Cutout(side=0.5)(images, joints, scores, generator())
    covered_pixels = (found == 0).all(dim=1)
    assert covered_pixels.flatten(1).any(dim=1).all()
    for b in range(4):
        rows, columns = np.nonzero(covered_pixels[b].numpy())
        assert covered_pixels[b].sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert np.ptp(rows) <= 2 * round(0.25 * np.sqrt(64 * 48))


@pytest.mark.parametrize(("height", "width"), [(64, 48), (48, 64), (256, 192)])
def test_cutout_patches_with_the_same_draws(height, width):
    """Rectangles at uniform positions, widths and heights drawn apart, from 10 to 19 pixels at 256×192."""
    images = torch.rand((3, 3, height, width), generator=generator(5), dtype=torch.float64) + 1
    factor = np.sqrt(height * width / (256 * 192))
    low, high = max(1, round(10 * factor)), round(19 * factor)
    for seed in range(3):
        found = CutoutPatches()(images, torch.zeros(3, 14, 2), torch.ones(3, 14), generator(seed)).numpy()
        draw = generator(seed)
        places = torch.rand((3, 5, 2), generator=draw).numpy()
        halves = torch.randint(low, high + 1, (3, 5, 2), generator=draw).numpy()
        expected = images.numpy().copy()
        for b in range(3):
            for (px, py), (half_width, half_height) in zip(places[b], halves[b], strict=True):
                x, y = int(px * np.float32(width)), int(py * np.float32(height))
                rows = slice(max(0, y - half_height), y + half_height + 1)
                expected[b, :, rows, max(0, x - half_width) : x + half_width + 1] = 0
        np.testing.assert_array_equal(found, expected)
        assert 0.02 < (found == 0).mean() < 0.2


def test_sizes_scale_with_the_input():
    for height, width in ((256, 192), (512, 384), (96, 96), (64, 48)):
        low, high = JointCutout().half_size_range(torch.empty(1, 3, height, width))
        factor = np.sqrt(height * width / (256 * 192))
        assert (low, high) == (round(10 * factor), round(19 * factor))
    with pytest.raises(ValueError, match="half_size_min"):
        JointCutout(half_size_min=20)
