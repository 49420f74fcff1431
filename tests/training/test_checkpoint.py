"""Checkpoints: what is saved, by which rules it is loaded."""

import torch
from torch import nn

from semipose.training.checkpoint import (
    MonitorMemory,
    ProcessState,
    TrainingState,
    has_checkpoint,
    load_checkpoint,
    previous,
    save_checkpoint,
)
from semipose.training.meter import LossMeter


def network_and_optimizer(layout=torch.contiguous_format):
    torch.manual_seed(0)
    network = nn.Conv2d(3, 4, 3).to(memory_format=layout)
    return network, torch.optim.Adam(network.parameters(), lr=0.1, fused=True)


def step(network, optimizer, seed):
    for p in network.parameters():
        values = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
        p.grad = torch.empty_like(p).copy_(values)
    optimizer.step()


def test_every_field_of_the_state_is_restored(tmp_path):
    network, optimizer = network_and_optimizer()
    meter = LossMeter({"supervised": torch.tensor(1.5)}, torch.tensor(3.0), 4)
    process = ProcessState(torch.Generator().manual_seed(1).get_state(), torch.get_rng_state(), meter)
    state = TrainingState(
        {"method": "single"}, (4, 8), {"labeled": "ab"}, 7, 1.5, 1.25, 99, 0.5, 6, "F", 0.1, 1, {"scale": 2.0},
        MonitorMemory(0.5, 1.0, 1, 2, ["drift"]), [process], 12,
    )  # fmt: skip
    save_checkpoint(tmp_path / "state.pt", state, network, optimizer)
    found = load_checkpoint(tmp_path / "state.pt", {"method": "single"}, *network_and_optimizer())
    (other,), found.processes = found.processes, []
    assert torch.equal(other.generator, process.generator)
    assert torch.equal(other.torch_rng, process.torch_rng)
    assert other.meter == meter
    state.processes = []
    assert found == state


def test_the_checkpoint_before_is_kept(tmp_path):
    path, parts = tmp_path / "state.pt", network_and_optimizer()
    assert not has_checkpoint(path)
    for number in (1, 2):
        save_checkpoint(path, TrainingState(step=number), *parts)
    assert load_checkpoint(path, {}, *parts).step == 2
    assert load_checkpoint(previous(path), {}, *parts).step == 1
    path.unlink()
    assert has_checkpoint(path)


def test_weights_in_another_memory_layout_continue_alike(tmp_path):
    """`train.channels_last` may change: a fused optimizer traverses weights and moments in the order of memory."""
    path, (network, optimizer) = tmp_path / "state.pt", network_and_optimizer()
    step(network, optimizer, 1)
    save_checkpoint(path, TrainingState(), network, optimizer)
    other, other_optimizer = network_and_optimizer(torch.channels_last)
    load_checkpoint(path, {}, other, other_optimizer)
    assert other.weight.is_contiguous(memory_format=torch.channels_last)
    step(network, optimizer, 2)
    step(other, other_optimizer, 2)
    assert torch.equal(network.weight, other.weight)


def test_options_of_parameter_groups_are_those_of_the_resumed_training(tmp_path):
    def groups(decay, scale):
        network, _ = network_and_optimizer()
        parts = [{"params": [network.weight], "weight_decay": decay, "lr_scale": scale}, {"params": [network.bias]}]
        return network, torch.optim.AdamW(parts, lr=0.1, weight_decay=0.0)

    first = groups(0.1, 1.0)
    step(*first, 1)
    save_checkpoint(tmp_path / "state.pt", TrainingState(), *first)
    network, optimizer = groups(0.3, 0.5)
    load_checkpoint(tmp_path / "state.pt", {}, network, optimizer)
    assert [(g["weight_decay"], g.get("lr_scale")) for g in optimizer.param_groups] == [(0.3, 0.5), (0.0, None)]
    assert all(float(state["step"]) == 1 for state in optimizer.state.values())
