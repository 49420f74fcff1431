"""The exercises of the rendered gym, as joint angles over the phase of the movement.

Angles are in degrees, rotations about the axes of the rest pose: a person at rest looks along -y, the left side is +x.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np

ARM_AT_REST = 42.0
"""Angle between upper arm and body in the rest pose of the body model, in degrees."""

SPINE = ("spine05", "spine04", "spine03", "spine02", "spine01")


@dataclass(frozen=True)
class Arm:
    """Angles of an arm: `out` to the side (0 hanging, 180 up), `forward`, and `elbow` (0 straight)."""

    out: float = 12.0
    forward: float = 0.0
    elbow: float = 15.0


@dataclass(frozen=True)
class Leg:
    """Angles of a leg: `forward` of the thigh against the vertical, `out` to the side, `knee` (0 straight)."""

    forward: float = 0.0
    out: float = 3.0
    knee: float = 0.0


@dataclass(frozen=True)
class Pose:
    """A pose: trunk, then arms and legs, left and right.

    Attributes:
        lean: Forward lean of the pelvis.
        bend: Forward bend of the spine.
        side: Bend of the spine to the left.
        twist: Turn of the spine to the left.
        arms: Left and right arm.
        legs: Left and right leg.
        jump: Height above the floor, in meters.
    """

    lean: float = 0.0
    bend: float = 0.0
    side: float = 0.0
    twist: float = 0.0
    arms: tuple[Arm, Arm] = (Arm(), Arm())
    legs: tuple[Leg, Leg] = (Leg(), Leg())
    jump: float = 0.0


@dataclass(frozen=True)
class Style:
    """How somebody does an exercise: its amplitude, the leading side and angles added to every pose."""

    amplitude: float = 1.0
    mirrored: bool = False
    noise: np.ndarray = field(default_factory=lambda: np.zeros(12))

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Style":
        """Draws a style."""
        return cls(float(rng.uniform(0.7, 1.1)), bool(rng.random() < 0.5), rng.normal(0, 6, 12))


def _jack(phase: float, size: float) -> Pose:
    up = (1 - np.cos(phase)) / 2 * size
    return Pose(arms=(Arm(12 + 150 * up),) * 2, legs=(Leg(out=3 + 24 * up),) * 2, jump=0.12 * abs(np.sin(phase)))


def _squat(phase: float, size: float) -> Pose:
    low = (1 - np.cos(phase)) / 2 * size
    leg = Leg(95 * low, 8, 115 * low)
    return Pose(lean=38 * low, arms=(Arm(10, 85 * low + 38 * low),) * 2, legs=(leg, leg))


def _lunge(phase: float, size: float) -> Pose:
    low = (1 - np.cos(phase)) / 2 * size
    return Pose(
        lean=8 * low, arms=(Arm(40, 10, 95),) * 2, legs=(Leg(80 * low, 4, 85 * low), Leg(-20 * low, 4, 65 * low))
    )


def _toe_touch(phase: float, size: float) -> Pose:
    low = (1 - np.cos(phase)) / 2 * size
    return Pose(lean=45 * low, bend=55 * low, arms=(Arm(14, 165 - 80 * low, 5),) * 2, legs=(Leg(-4 * low),) * 2)


def _side_bend(phase: float, size: float) -> Pose:
    turn = np.sin(phase) * size
    arms = (Arm(30 + 120 * max(0.0, -turn), 0, 25), Arm(30 + 120 * max(0.0, turn), 0, 25))
    return Pose(side=38 * turn, arms=arms, legs=(Leg(out=14), Leg(out=14)))


def _boxing(phase: float, size: float) -> Pose:
    turn = np.sin(phase)
    reach = [max(0.0, s * turn) * size for s in (1, -1)]
    arms = tuple(Arm(16, 35 + 55 * value, 125 * (1 - value)) for value in reach)
    return Pose(
        lean=8, bend=8, twist=-28 * turn * size, arms=(arms[0], arms[1]), legs=(Leg(22, 8, 22), Leg(-18, 8, 12))
    )


EXERCISES: dict[str, Callable[[float, float], Pose]] = {
    "jumping jack": _jack,
    "squat": _squat,
    "lunge": _lunge,
    "toe touch": _toe_touch,
    "side bend": _side_bend,
    "boxing": _boxing,
}
"""The exercises: poses from the phase, in radians, and the amplitude, about 1."""


def _turn(axis: tuple[float, float, float], degrees: float) -> np.ndarray:
    """Returns the rotation (3, 3) about `axis` (Rodrigues)."""
    x, y, z = np.asarray(axis, float) / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    angle = np.radians(degrees)
    return np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross


def bone_rotations(
    exercise: Callable[[float, float], Pose], phase: float, style: Style, heading: float
) -> tuple[dict[str, np.ndarray], float]:
    """Returns the rotation of each bone that moves, and the height of the jump in meters.

    Args:
        exercise: One of `EXERCISES`.
        phase: Phase of the movement, in radians.
        style: How it is done.
        heading: Turn of the person about the vertical, in degrees.
    """
    pose = exercise(phase, style.amplitude)
    noise = style.noise
    x, y, z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
    if style.mirrored:
        pose = replace(pose, side=-pose.side, twist=-pose.twist, arms=pose.arms[::-1], legs=pose.legs[::-1])
    rotations = {"root": _turn(z, heading) @ _turn(x, pose.lean)}
    spine = _turn(z, pose.twist / 5) @ _turn(y, pose.side / 5) @ _turn(x, pose.bend / 5)
    rotations |= dict.fromkeys(SPINE, spine)
    rotations["neck01"] = _turn(x, noise[0] - 0.3 * (pose.lean + pose.bend)) @ _turn(z, 2 * noise[1])
    for k, (name, sign) in enumerate((("L", 1.0), ("R", -1.0))):
        arm, leg = pose.arms[k], pose.legs[k]
        out = arm.out + noise[2 + k]
        shoulder = 0.3 * max(0.0, out - 60)
        rotations[f"shoulder01.{name}"] = _turn(y, -sign * shoulder)
        upper = _turn(x, -arm.forward - noise[4 + k]) @ _turn(y, -sign * (out - shoulder - ARM_AT_REST))
        rotations[f"upperarm01.{name}"] = upper
        rotations[f"lowerarm01.{name}"] = _turn((-0.75, -0.07 * sign, -0.66 * sign), arm.elbow + noise[6 + k] - 43)
        forward = leg.forward + 0.5 * noise[8 + k]
        thigh = _turn(y, -sign * leg.out) @ _turn(x, -forward - pose.lean)
        rotations[f"upperleg01.{name}"] = thigh
        rotations[f"lowerleg01.{name}"] = _turn(x, max(0.0, leg.knee + 0.5 * noise[10 + k]))
        rotations[f"foot.{name}"] = _turn(x, float(np.clip(forward - leg.knee, -25, 25)))
    return rotations, pose.jump
