"""`akm`: its loss and that of the Mixup branch, eq. 4, in float64 from the views it drew."""

import copy

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from semipose.augment.masking import AdaptiveJointCutout
from semipose.augment.mixing import mixing_share
from semipose.augment.views import ViewsConfig
from semipose.methods import akm
from semipose.methods.akm import AdaptiveKeypointMasking, Config
from semipose.methods.base import StepInfo
from tests.methods import helpers, reference

SIZE = helpers.SIZE
PEAK = 1.2
IMAGE = {"enabled": True, "places": ["image"]}


@pytest.fixture
def build():
    """(method, spy): the augmented image is known exactly."""

    def make(views=None, **options):
        spy = helpers.Spy()
        config = Config(**options)
        config.augmentations = [spy]
        return AdaptiveKeypointMasking(config, helpers.make_context(SIZE, views=views)), spy

    return make


def unmix(mixed, images):
    """The share a and the partners j of X_m = a X_i + (1 - a) X_j, read off the images; a = 1 if none is mixed."""
    mixed, images = mixed.double(), images.double()
    shares, partners = [], []
    for i in range(len(images)):
        if torch.allclose(mixed[i], images[i], rtol=0, atol=1e-5):  # mixed with itself
            partners.append(i)
            continue
        fits = []
        for j in set(range(len(images))) - {i}:
            direction = images[i] - images[j]
            a = float(((mixed[i] - images[j]) * direction).sum() / (direction**2).sum())
            fits.append((float((mixed[i] - a * images[i] - (1 - a) * images[j]).abs().max()), a, j))
        error, a, j = min(fits)
        assert error < 1e-4
        shares.append(a)
        partners.append(j)
    assert sorted(partners) == list(range(len(images)))
    assert not shares or np.ptp(shares) < 1e-4
    return float(np.mean(shares)) if shares else 1.0, torch.tensor(partners)


class Terms:
    """The three terms of one step by explicit formula, on the hard view number `which`.

    Views that the spy has altered are brighter by .5; those of the Mixup branch are not altered.
    """

    def __init__(self, f, method, *, which=0, altered=True, seen_mask=True, min_peak=None):
        self.f, self.recording = f, method.context.views.recording
        easy, matrix = self.recording.easy[0].images.double(), self.recording.hard[which].from_easy
        self.maps = copy.deepcopy(f).forward_main(easy).detach()
        self.hard = reference.warp(easy + 0.5 * altered, matrix)
        self.warped, seen = reference.warp_heatmaps(self.maps, matrix)
        self.seen = seen if seen_mask else torch.ones_like(seen)
        peaks = self.maps.amax(dim=(2, 3))
        self.weights = (peaks >= min_peak).double() if min_peak else torch.ones_like(peaks)

    def supervised(self, labeled):
        return reference.supervised_loss(self.f, self.recording, labeled)

    def unlabeled(self):
        return reference.mse(self.f(self.hard), self.warped, self.weights, self.seen)

    def mixed(self, share, j):
        """a MSE(f(X_m), H_i) + (1 - a) MSE(f(X_m), H_j)."""
        outputs = self.f(share * self.hard + (1 - share) * self.hard[j])
        own = reference.mse(outputs, self.warped, self.weights, self.seen)
        theirs = reference.mse(outputs, self.warped[j], self.weights[j], self.seen[j])
        return share * own + (1 - share) * theirs


def forward_inputs(method):
    """Keeps the images that enter the network's forward pass."""
    seen = []
    method.f.register_forward_hook(lambda module, args, output: seen.append(args[0]))
    return seen


# ---- without the branch


@pytest.mark.parametrize("weight", [1.0, 0.3])
def test_the_loss_without_mixup(build, batches, start, weight):
    labeled, unlabeled = batches
    method, spy = build(unlabeled_weight=weight)
    f = copy.deepcopy(method.f).double()
    value = method.losses(labeled, unlabeled, start)
    terms = Terms(f, method)
    assert set(value.terms) == {"supervised", "unlabeled"}
    helpers.assert_close(value.terms["supervised"], terms.supervised(labeled))
    helpers.assert_close(value.terms["unlabeled"], weight * terms.unlabeled())
    helpers.assert_close(value.total, terms.supervised(labeled) + weight * terms.unlabeled())
    joints, scores = reference.decode(terms.maps)
    np.testing.assert_allclose(spy.joints[0].numpy(), joints, atol=1e-4)
    np.testing.assert_allclose(spy.scores[0].numpy(), scores, rtol=1e-3, atol=1e-5)


def test_the_papers_best_is_the_default():
    """m = 8 masks, 2 on an extremely hard sample; image mixing and before layer 3, where asked."""
    config = Config()
    assert config.augmentations == [AdaptiveJointCutout(joints=8, min_joints=2)]
    assert not config.mixup.enabled
    assert config.mixup.places == ["image", "layer3"]
    assert (config.unlabeled_weight, config.mixup.weight, config.burn_in, config.min_peak) == (1, 1, 0, 0)


def test_the_number_of_masks_follows_the_teachers_peaks(monkeypatch):
    """The default augmentation gets the scores: equal peaks make 8 masks, one easy joint among 14 the fewest, 2."""
    counts_used = []
    counts = AdaptiveJointCutout.num_patches

    def record(self, scores):
        counts_used.append(counts(self, scores))
        return counts_used[-1]

    monkeypatch.setattr(AdaptiveJointCutout, "num_patches", record)
    method = AdaptiveKeypointMasking(Config(), helpers.make_context(SIZE))
    easy = method.context.views.easy(helpers.make_unlabeled(SIZE))
    maps = torch.zeros(4, 14, 16, 12)
    maps[:, :, 5, 5] = torch.tensor([1.0, 0.01, 0.05, 1.0])[:, None]
    maps[1, 0, 5, 5] = 1  # one is easy
    maps[3, :7, 5, 5] = 0.01  # half of them are
    method.context.hard_view(easy, maps, method.config.augmentations)
    assert counts_used[0].tolist() == [8, 2, 2, 4]  # the third lies below the least peak


@pytest.mark.parametrize(
    "wrong",
    [{"mixup": {"places": []}}, {"mixup": {"places": ["layer5"]}}, {"mixup": {"beta": 0}}, {"mixup": {"weight": -1}}],
)
def test_wrong_options_are_errors(wrong):
    with pytest.raises(ValidationError):
        Config(**wrong)


# ---- the branch


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("seen_mask", "min_peak"), [(True, None), (False, None), (True, PEAK)])
def test_the_mixed_loss(build, batches, seed, seen_mask, min_peak):
    """Eq. 4 with the share and partners that the mixed images show; they are the generator's next draws."""
    _, unlabeled = batches
    options = {"min_peak": min_peak} if min_peak else {}
    method, _ = build(views=ViewsConfig(seen_mask=seen_mask), mixup={"beta": 0.7}, **options)
    context, generator = method.context, method.context.views.generator
    easy = context.views.easy(unlabeled)
    f = copy.deepcopy(method.f).double()
    heatmaps = context.pseudo_heatmaps(method.f, easy, method.config)
    hard = context.hard_view(easy, heatmaps, method.config.augmentations)
    generator.manual_seed(seed)
    before, inputs = generator.get_state(), forward_inputs(method)
    value = method.mixed_loss(hard, heatmaps, "image")
    after = generator.get_state()
    assert len(inputs) == 1
    share, partner = unmix(inputs[0], hard.images)

    generator.set_state(before)
    drawn = mixing_share(0.7, (), generator, torch.device("cpu"))
    order = torch.randperm(4, generator=generator)
    assert torch.equal(generator.get_state(), after)
    assert torch.equal(partner, order)
    moved = not torch.equal(order, torch.arange(4))  # seed 0 leaves all in place: nothing is mixed
    if moved:
        assert share == pytest.approx(float(drawn), abs=1e-4)

    terms = Terms(f, method, seen_mask=seen_mask, min_peak=min_peak)
    if min_peak:
        assert 0 < terms.weights.mean() < 1
        assert torch.equal(terms.weights, terms.weights[partner]) is not moved
    helpers.assert_close(value, terms.mixed(float(drawn), partner))


@pytest.mark.parametrize(("weight", "mixed_weight"), [(1.0, 1.0), (0.3, 1.0), (1.0, 0.25), (2.0, 0.25)])
def test_the_loss_with_mixup(build, batches, start, weight, mixed_weight):
    """L = L_s + λ_u L_u + λ_m L_m, λ_m as a multiple of λ_u; the mixed branch has an unmasked hard view of its own."""
    labeled, unlabeled = batches
    method, spy = build(unlabeled_weight=weight, mixup={**IMAGE, "weight": mixed_weight})
    f, inputs = copy.deepcopy(method.f).double(), forward_inputs(method)
    value = method.losses(labeled, unlabeled, start)
    assert set(value.terms) == {"supervised", "unlabeled", "mixed"}
    masked, unmasked = method.context.views.recording.hard
    assert (len(inputs), len(spy.joints)) == (3, 1)
    assert torch.equal(inputs[1], masked.images)
    assert not torch.allclose(masked.from_easy, unmasked.from_easy)
    share, partner = unmix(inputs[2], unmasked.images)
    terms = Terms(f, method)
    expected = {
        "supervised": terms.supervised(labeled),
        "unlabeled": weight * terms.unlabeled(),
        "mixed": weight * mixed_weight * Terms(f, method, which=1, altered=False).mixed(share, partner),
    }
    for name, term in expected.items():
        helpers.assert_close(value.terms[name], term)
    helpers.assert_close(value.total, sum(expected.values()))


def test_the_branch_changes_none_of_the_other_terms(build, batches, start):
    labeled, unlabeled = batches
    with_it, without = (build(mixup={**IMAGE, "enabled": on})[0].losses(labeled, unlabeled, start) for on in (1, 0))
    assert with_it.terms["supervised"].equal(without.terms["supervised"])
    assert with_it.terms["unlabeled"].equal(without.terms["unlabeled"])
    assert with_it.total > without.total


def test_the_targets_of_the_branch_are_detached(build, batches):
    """The gradient equals that of a loss whose targets are constants."""
    _, unlabeled = batches
    method, _ = build()
    easy = method.context.views.easy(unlabeled)
    f, inputs = copy.deepcopy(method.f).double(), forward_inputs(method)
    heatmaps = method.context.pseudo_heatmaps(method.f, easy, method.config)
    hard = method.context.hard_view(easy, heatmaps, method.config.augmentations)
    method.mixed_loss(hard, heatmaps, "image").backward()
    share, partner = unmix(inputs[0], hard.images)
    Terms(f, method).mixed(share, partner).backward()
    for (name, one), other in zip(method.f.named_parameters(), f.parameters(), strict=True):
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=2e-3, atol=1e-5, msg=name)


def test_the_share_has_the_beta_asked_for(build, batches):
    """Beta(50, 50) keeps near a half, Beta(.05, .05) near the ends."""
    _, unlabeled = batches
    shares = {}
    for beta in (0.05, 50.0):
        method, _ = build(mixup={"beta": beta})
        easy = method.context.views.easy(unlabeled)
        heatmaps = method.context.pseudo_heatmaps(method.f, easy, method.config)
        hard = method.context.hard_view(easy, heatmaps, [])
        inputs = forward_inputs(method)
        with torch.no_grad():
            for _ in range(12):
                method.mixed_loss(hard, heatmaps, "image")
        shares[beta] = [abs(unmix(m, hard.images)[0] - 0.5) for m in inputs]
    assert max(shares[50.0]) < 0.2
    assert np.mean(shares[0.05]) > 0.4


def test_every_step_mixes_at_every_place(build, batches, start, monkeypatch):
    """Feature mixing is added to image mixing: each has its pass, share and partners; the loss is their mean."""
    labeled, unlabeled = batches
    method, _ = build(mixup={"enabled": True, "places": ["image", "layer3", "final"]})
    f, used, mixed = copy.deepcopy(method.f).double(), [], []

    def note(network, images, mix, place):
        used.append(place)
        mixed.append(mix(images))
        return network(mixed[-1])

    monkeypatch.setattr(akm, "mixed_forward", note)
    value = method.losses(labeled, unlabeled, start)
    assert used == ["image", "layer3", "final"]
    unmasked = method.context.views.recording.hard[1]
    drawn = [unmix(images, unmasked.images) for images in mixed]
    assert len({round(share, 4) for share, _ in drawn}) == 3
    terms = Terms(f, method, which=1, altered=False)
    helpers.assert_close(value.terms["mixed"], sum(terms.mixed(*one) for one in drawn) / 3)


def test_the_branch_waits_for_the_ramp(build, batches):
    labeled, unlabeled = batches
    for step, factor in ((0, 0), (25, 0.25), (40, 1)):
        method, _ = build(burn_in=0.2, ramp_up=0.2, mixup=IMAGE)
        full, _ = build(mixup=IMAGE)
        terms = method.losses(labeled, unlabeled, StepInfo(step, 100)).terms
        whole = full.losses(labeled, unlabeled, StepInfo(step, 100)).terms
        if factor == 0:
            assert set(terms) == {"supervised"}
        else:
            for name in ("unlabeled", "mixed"):
                torch.testing.assert_close(terms[name], factor * whole[name], rtol=1e-4, atol=0)
