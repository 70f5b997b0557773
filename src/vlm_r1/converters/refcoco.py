"""RefCOCO, RefCOCO+, RefCOCOg, RefGTA and gRefCOCO in the layout of the refer API → one record for each sentence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.converters.base import Conversion, Converter, Job, Line, Tally, clean_text, option
from vlm_r1.converters.coco_layout import CocoFile, CocoImage, read_coco
from vlm_r1.converters.detection import NONE, TWICE
from vlm_r1.converters.files import location, read_json, shown, take
from vlm_r1.converters.ids import Id, check_alike, read_id
from vlm_r1.converters.pickles import read_pickle
from vlm_r1.converters.pictures import Images, Picture, Unusable, as_json, find_images, usable_box
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_list
from vlm_r1.types import AnswerValue, Box

NO_TARGET = -1
"""gRefCOCO's annotation id of a sentence that describes nothing in its image."""

NO_IMAGE = "of an image that instances.json lacks"
NO_OBJECT = "of an object that instances.json lacks"
SEVERAL_OBJECTS = "of an id that several objects of instances.json have"
OTHER_IMAGE = "of an object that lies in another image"
NO_IDS = "names no object, and does not say that there is none"
UNREADABLE_REF = "its reference cannot be read"


@dataclass(frozen=True)
class RefcocoOptions:
    """The split to convert."""

    split: str = option("train", "train, val, testA, testB or test")
    by: str | None = option(None, "who split the data, if there are several: unc, google, umd or utokyo")


def convert(job: Job, options: RefcocoOptions) -> Conversion:
    """Convert a folder with `instances.json` and `refs(unc).p` (or `.json`; gRefCOCO: `grefs(unc)`).

    There is one record for each sentence. The task is rec, or multi_rec for gRefCOCO, where a sentence may describe

    Raises:
        DataError: the source has another layout or no such split, or its images were not found.
    """
    refs_path = _refs_file(job.source, options.by)
    refs = read_json(refs_path) if refs_path.suffix == ".json" else read_pickle(refs_path)
    if not is_list(refs):
        raise DataError(f"{refs_path}: got {shown(refs)}, wanted a list")
    refs = list(_with_split(refs, refs_path, job.tally))
    splits = Counter(ref["split"] for _, ref in refs)
    if options.split not in splits:
        known = ", ".join(f"{name} ({n})" for name, n in splits.items())
        known = known or f"none; {job.tally.examples.get(('reference', UNREADABLE_REF), 'it is empty')}"
        raise DataError(f"{refs_path}: no split {options.split!r}; it has {known}")
    file = read_coco(job.source / "instances.json", job.tally)
    images_by_id = {image.id: image for image in file.images}
    image_ids = (read_id(ref.get("image_id")) for _, ref in refs)
    check_alike("image", {*images_by_id, *(id_ for id_ in image_ids if id_ is not None)}, refs_path)
    images = find_images(job, _places(job.source), file.file_names)
    reader = _Reader(job, file, images_by_id, images, refs_path, f"{job.source.resolve().name}-{_by(refs_path)}")
    wanted = [(i, ref) for i, ref in refs if ref["split"] == options.split]
    task = "multi_rec" if refs_path.name.startswith("grefs") else "rec"
    return Conversion(task, images.root, reader.lines(wanted, task))


def _with_split(refs: Iterable[Any], path: Path, tally: Tally) -> Iterator[tuple[int, Any]]:
    """Yield the references that name their split, with their indices."""
    for i, ref in enumerate(refs):
        try:
            take(ref, "split", str, path, i)
        except DataError as error:
            tally.drop("reference", UNREADABLE_REF, example=str(error))
        else:
            yield i, ref


def _refs_file(folder: Path, by: str | None) -> Path:
    found = sorted(path for path in folder.glob("*refs(*).*") if path.suffix in (".p", ".json"))
    chosen = [path for path in found if by in (None, _by(path))]
    if len({path.stem for path in chosen}) > 1:
        names = ", ".join(_by(path) for path in chosen)
        raise DataError(f"{folder}: split by several: {names}. Choose one by --by")
    if not chosen:
        names = ", ".join(path.name for path in found) or "none at all"
        raise DataError(f"{folder}: no refs({by or 'unc'}).p or .json; found {names}")
    return chosen[0]


def _by(path: Path) -> str:
    """Return "unc" for `refs(unc).p`."""
    return path.stem.partition("(")[2].rstrip(")")


def _places(folder: Path) -> list[Path]:
    """Folders where the refer API, LISA and the original VLM-R1 keep COCO's images of 2014."""
    names = ("images/mscoco/images/train2014", "images/train2014", "train2014", "coco/train2014")
    bases = (folder, folder.parent, folder.parent.parent)
    return [base / name for base in bases for name in names]


@dataclass(frozen=True)
class _Reader:
    """Makes the records of a file; their ids start with `prefix`, e.g. "refcoco+-unc"."""

    job: Job
    file: CocoFile
    images_by_id: Mapping[Id, CocoImage]
    images: Images
    refs_path: Path
    prefix: str

    def lines(self, refs: list[tuple[int, Any]], task: str) -> Iterator[Line]:
        for index, ref in self.job.track(refs):
            where = (self.refs_path, index)
            try:
                sentences = take(ref, "sentences", list, *where)
                made = self._line_of_ref(ref, task, where)
            except DataError as error:
                self.job.tally.drop("reference", UNREADABLE_REF, example=str(error))
                continue
            if isinstance(made, Unusable):
                self.job.tally.drop("sentence", made.reason, len(sentences), made.example or location(*where))
                continue
            for i, sentence in enumerate(sentences):
                yield from self._line_of_sentence(made, sentence, (*where, "sentences", i))

    def _line_of_ref(self, ref: Any, task: str, where: tuple[object, ...]) -> Line | Unusable:
        """Make the image and answer that all sentences of a reference share."""
        image = self.images_by_id.get(take(ref, "image_id", None, *where))
        if image is None:
            return Unusable(NO_IMAGE)
        if not image.name:
            return image.unusable or Unusable(NO_IMAGE)
        picture = self.images.picture(image.name, image.wh, self.job.tally)
        if isinstance(picture, Unusable):
            return picture
        answer = self._answer(ref, image.id, task, picture, where)
        if isinstance(answer, Unusable):
            return answer
        return Line("", picture.name, "", answer, {"size": list(picture.wh)})

    def _answer(
        self, ref: Any, image_id: Id, task: str, picture: Picture, where: tuple[object, ...]
    ) -> AnswerValue | Unusable:
        ids = ref.get("ann_id") if task == "multi_rec" else take(ref, "ann_id", None, *where)
        ids = ids if is_list(ids) else [ids]
        if not ids and ref.get("no_target") is not True:
            return Unusable(NO_IDS)
        boxes: list[AnswerValue] = []
        for id_ in map(read_id, ids):
            if id_ == NO_TARGET and task == "multi_rec":
                continue
            found = self._object(id_, image_id)
            box = found if isinstance(found, Unusable) else usable_box(found, picture, self.job.tally)
            if isinstance(box, Unusable):
                return box if isinstance(found, Unusable) else Unusable(f"its box is {box.reason}")
            if as_json(box) in boxes:
                self.job.tally.drop("box", TWICE, example=location(*where))
            else:
                boxes.append(as_json(box))
        return (boxes or NONE) if task == "multi_rec" else boxes[0]

    def _object(self, id_: Id | None, image_id: Id) -> Box | Unusable:
        """The box of the only object with that id, which must be in that image."""
        if id_ is None or id_ not in self.file.annotation_boxes:
            return Unusable(NO_OBJECT)
        found = self.file.annotation_boxes[id_]
        if found is None:
            return Unusable(SEVERAL_OBJECTS)
        if found.image_id != image_id:
            return Unusable(OTHER_IMAGE)
        return Unusable(f"its box is {found.box.reason}") if isinstance(found.box, Unusable) else found.box

    def _line_of_sentence(self, line: Line, sentence: Any, where: tuple[object, ...]) -> Iterator[Line]:
        try:
            id_ = f"{self.prefix}-{take(sentence, 'sent_id', None, *where)}"
            question = clean_text(take(sentence, "sent", str, *where))
        except DataError as error:
            self.job.tally.drop("sentence", "cannot be read", example=str(error))
            return
        if question:
            yield Line(id_, line.image, question, line.answer, line.extra)
        else:
            self.job.tally.drop("sentence", "empty", example=location(*where))


REFCOCO = Converter(
    name="refcoco",
    summary="RefCOCO, RefCOCO+, RefCOCOg → one box a sentence; gRefCOCO → several or none",
    layout="refs(unc).p and instances.json in one folder, COCO's train2014/*.jpg",
    options=RefcocoOptions,
    convert=convert,
)
