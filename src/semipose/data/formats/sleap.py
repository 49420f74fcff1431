"""SLEAP's labels (.slp, .pkg.slp), through sleap-io."""

import logging
import re
from collections import Counter
from hashlib import sha256
from itertools import count
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from semipose.data.formats.base import Format
from semipose.data.formats.categories import ANY_CATEGORY, CategoryChoice, single_category
from semipose.data.formats.deeplabcut import LABELS
from semipose.data.formats.image_files import ImageFolder
from semipose.data.formats.image_names import names_below_shared_folder
from semipose.data.formats.unpacked import file_key, unpacked
from semipose.data.formats.whole_frames import NO_AREA, dataset_without_boxes
from semipose.data.images import write_image
from semipose.errors import DataError, collect_errors
from semipose.structures.categories import Category
from semipose.structures.instances import Instance, PoseDataset
from semipose.structures.skeletons import Skeleton, infer_skeleton
from semipose.utils.extras import import_extra
from semipose.utils.files import is_file, replacing
from semipose.utils.progress import NO_PROGRESS, Progress
from semipose.utils.text import first_line, plural

log = logging.getLogger(__name__)

NO_NAME = re.compile(r"(?:skeleton[-_ ]?\d*)?", re.IGNORECASE)
"""Names of skeletons that SLEAP gives if the user gives none."""


class SleapFormat(Format):
    """The labels that a user made; predictions of SLEAP are left out and counted.

    Frames of videos and frames inside of the file are written to the cache folder as PNG, named like those of a
    DeepLabCut project: `labeled-data/VIDEO/VIDEO_NUMBER.png`. Image ids and annotation ids
    count from 1, the name of a track is that of the individual, the name of the skeleton that of the category, and the
    box is that of `dataset_without_boxes`.

    Reference: Pereira et al., Nature Methods 2022.
    """

    def matches(self, path: Path) -> bool:
        """Returns whether a file is named .slp; it is HDF5, which other tables are, too."""
        return path.suffix.lower() == ".slp" and is_file(path)

    def read(
        self,
        path: Path,
        images: Path | None = None,
        problems: list[str] | None = None,
        category: CategoryChoice = ANY_CATEGORY,
    ) -> PoseDataset:
        """Reads the animals of a SLEAP file, as `Format.read` describes."""
        labels = _load(path)
        skeleton = _skeleton(labels, path)
        frames = [frame for frame in labels.labeled_frames if frame.user_instances]
        animals: list[Instance] = []
        files = _Frames(path, images, [frame.video for frame in frames], problems)
        for number, frame in enumerate(frames, start=1):
            with collect_errors(problems):
                if image := files.image(frame):
                    own = frame.user_instances
                    animals += [_animal(a, skeleton, image, number, len(animals) + n) for n, a in enumerate(own, 1)]
        files.folder.report(path)
        if frames and not animals:
            raise DataError(f"none of the {plural(len(frames), 'labeled frame')} of {path} can be read")
        predicted = sum(len(frame.predicted_instances) for frame in labels.labeled_frames)
        (own,) = labels.skeletons
        name = None if NO_NAME.fullmatch(own.name or "") else own.name
        found = single_category(name, skeleton, category)
        left_out = {"predictions of SLEAP": predicted} if predicted else None
        return dataset_without_boxes(skeleton, found, animals, path, problems, left_out=left_out)


def has_predictions_only(path: Path) -> bool:
    """Returns whether a file is one of SLEAP in which no instance was made or corrected by a user.

    Raises:
        ConfigError: If sleap-io is not installed.
    """
    try:
        return not any(frame.user_instances for frame in _load(path).labeled_frames)
    except DataError:
        return False


def write_slp(persons: PoseDataset, path: Path, progress: Progress = NO_PROGRESS) -> Path:
    """Writes the labels of a data set as a .slp file that refers to its images.

    Boxes are not part of the format; occluded joints are not visible there.

    Returns:
        The folder that the images share.
    """
    root, names = names_below_shared_folder(persons.image_paths)
    members: dict[int | str, list[Any]] = {image_id: [] for image_id in names}
    sleap_io = import_extra("sleap_io", "formats", f"writing {path.name}")
    skeleton = sleap_skeleton(persons.skeleton, persons.category)
    tracks: dict[str, Any] = {}
    for person in persons.instances:
        if person.joints is not None and person.visibility is not None and person.labeled and not person.is_crowd:
            points = np.where((person.visibility > 0)[:, None], person.joints, np.nan)
            track = person.individual and tracks.setdefault(person.individual, sleap_io.Track(person.individual))
            instance = sleap_io.Instance.from_numpy(points, skeleton=skeleton, track=track)
            instance.points["visible"] = person.visibility == 2
            members[person.image_id].append(instance)
    save_slp([str(root / name) for name in names.values()], list(members.values()), skeleton, path)
    return root


def sleap_skeleton(skeleton: Skeleton, category: Category) -> Any:
    """Returns sleap-io's skeleton with the same joints, limbs and left/right pairs.

    Its name is that of the category, from which it is read again, or stays one that SLEAP gave (`NO_NAME`).
    """
    sleap_io = import_extra("sleap_io", "formats", "writing SLEAP's files")
    nodes = [sleap_io.Node(joint) for joint in skeleton.joints]
    return sleap_io.Skeleton(
        nodes,
        edges=[sleap_io.Edge(nodes[a], nodes[b]) for a, b in skeleton.limbs],
        symmetries=[sleap_io.Symmetry([nodes[a], nodes[b]]) for a, b in skeleton.flip_pairs],
        name=skeleton.name if NO_NAME.fullmatch(skeleton.name) else category.name,
    )


def save_slp(video: str | list[str], frames: list[list[Any]], skeleton: Any, path: Path) -> None:
    """Writes a .slp file.

    Args:
        video: A video, or the images that are its frames.
        frames: sleap-io's instances in each frame.
        skeleton: sleap-io's skeleton.
        path: The file.
    """
    sleap_io = import_extra("sleap_io", "formats", f"writing {path.name}")
    source = sleap_io.Video.from_filename(video)
    labeled = [
        sleap_io.LabeledFrame(video=source, frame_idx=n, instances=found) for n, found in enumerate(frames) if found
    ]
    labels = sleap_io.Labels(labeled, videos=[source], skeletons=[skeleton])
    with replacing(path) as temporary:
        sleap_io.save_slp(labels, str(temporary), embed=False, verbose=False)


def _load(path: Path) -> Any:
    """The content of a file, as sleap-io has it."""
    sleap_io = import_extra("sleap_io", "formats", f"reading {path.name}")
    try:
        return sleap_io.load_slp(str(path), open_videos=False)
    except Exception as error:  # sleap-io and h5py raise many types
        raise DataError(f"{path} can't be read as SLEAP's labels ({first_line(error)})") from None


class _Frames:
    """The image files of frames: those of the labels, or frames of a video that are written to the cache folder.

    A frame is `labeled-data/VIDEO/VIDEO_NUMBER.png` there, in a folder for this state of the labels and the videos.

    Args:
        path: The file of the labels.
        images: The folder of the images and videos; that of the labels if not given.
        videos: sleap-io's video of each labeled frame.
        problems: Collects one line for each video that is missing.
    """

    def __init__(self, path: Path, images: Path | None, videos: list[Any], problems: list[str] | None) -> None:
        self.path, self.folder = path, ImageFolder(images or path.parent)
        self._names: dict[Path, str] = {}
        self._videos: dict[Any, Path] = {}
        for video, labeled in Counter(videos).items():
            if not isinstance(video.filename, list):
                with collect_errors(problems):
                    self._videos[video] = self._video(video, plural(labeled, "labeled frame"))
        self._stems: dict[Any, str] = {}
        for video, file in self._videos.items():
            stem = _stem(video, file)
            names = (stem if n == 1 else f"{stem}_{n}" for n in count(1))
            self._stems[video] = next(name for name in names if name not in self._stems.values())
        state = sha256(" ".join(map(file_key, self._videos.values())).encode()).hexdigest()[:16]
        self._cache = unpacked(path, lambda folder: None) / state / LABELS if self._videos else path.parent

    def image(self, frame: Any) -> Path | None:
        """Returns the image of a labeled frame; None if its video is missing."""
        video, index = frame.video, int(frame.frame_idx)
        if isinstance(video.filename, list):
            return self._file(video.filename[index], f"{self.path}: frame {index}")
        if video not in self._videos:
            return None
        file, stem = self._videos[video], self._stems[video]
        target = self._cache / stem / f"{stem}_{index:06d}.png"
        if not is_file(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_image(_decode(video, file, index, f"{self.path}: frame {index} of {file}"), target, 100)
        return target

    def _video(self, video: Any, frames: str) -> Path:
        """The file of a video; `frames` says how many of its frames are labeled."""
        where = f"{self.path}: video {video.filename} with {frames}"
        file = self._file(video.filename, where)
        if not is_file(file):
            raise DataError(f"{where} is missing; if it has moved, give the folder that it is in as `images`")
        return file

    def _file(self, name: str, where: str) -> Path:
        """The file of a video or an image, which may have moved together with the folders that contain it."""
        own = Path(name)
        if is_file(own):
            return self._used(own, str(own.resolve()), where)
        parts = name.replace("\\", "/").split("/../")[-1].split("/")
        below = "/".join(part for part in parts if part and not part.endswith(":"))
        found = self.folder.find(below, where)
        return self._used(found, below, where) if is_file(found) else self.folder.root / parts[-1]

    def _used(self, file: Path, name: str, where: str) -> Path:
        if (other := self._names.setdefault(file.resolve(), name)) != name:
            raise DataError(
                f"{where}: {other} and {name} would both be {file}; give the folder that contains their folders with "
                "`images`"
            )
        return file


def _stem(video: Any, file: Path) -> str:
    """The name of a video without suffix, also of one whose frames are inside of the labels."""
    source = getattr(video.source_video, "filename", None)
    name = source if isinstance(source, str) else file.name.removesuffix(".slp")
    return PurePosixPath(name.replace("\\", "/")).stem[:60]


def _decode(video: Any, file: Path, index: int, where: str) -> np.ndarray:
    if Path(video.filename) != file:
        video.replace_filename(str(file), open=False)
    try:
        if video.backend is None:
            video.open()
        pixels = np.asarray(video[index])
    except Exception as error:  # sleap-io's readers raise many types
        raise DataError(f"{where} can't be read ({first_line(error)}); is it the video that was labeled?") from None
    return np.repeat(pixels, 3, axis=2) if pixels.shape[2] == 1 else np.ascontiguousarray(pixels[..., :3])


def _skeleton(labels: Any, path: Path) -> Skeleton:
    """The joints of the file, with edges as limbs and symmetries as left/right pairs."""
    if len(labels.skeletons) != 1:
        raise DataError(f"{path} has {len(labels.skeletons)} skeletons; save one with a single skeleton")
    (own,) = labels.skeletons
    skeleton = infer_skeleton([node.name for node in own.nodes], name=own.name or path.stem)
    edges = [(edge.source.name, edge.destination.name) for edge in own.edges]
    pairs = [sorted((node.name for node in pair.nodes), key=own.node_names.index) for pair in own.symmetries]
    return skeleton.with_given(limbs=edges or None, flip_pairs=pairs or None)


def _animal(instance: Any, skeleton: Skeleton, image: Path, image_id: int, number: int) -> Instance:
    points, visible = np.array(instance.points["xy"], float), np.array(instance.points["visible"], bool)
    labeled = np.isfinite(points).all(axis=1)
    return Instance(
        image=image,
        image_id=image_id,
        annotation_id=number,
        box=NO_AREA,
        joints=np.where(labeled[:, None], points, 0),
        visibility=np.where(labeled, np.where(visible, 2, 1), 0).astype(np.int8),
        individual=instance.track.name if instance.track else None,
    )
