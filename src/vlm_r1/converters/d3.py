"""Description Detection Dataset (D-cube, D³) → detection of described objects, some of them absent."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vlm_r1.converters.base import Conversion, Converter, Job, Line, Tally, clean_text, option
from vlm_r1.converters.coco_layout import CocoImage, read_coco, require_images
from vlm_r1.converters.coco_objects import CocoObject, read_object
from vlm_r1.converters.detection import DetectionOptions, apply_limits, contents_of, detection_line, usable_picture
from vlm_r1.converters.files import integer_in, location, shown, take
from vlm_r1.converters.ids import Id, check_alike, read_id
from vlm_r1.converters.pickles import read_pickle
from vlm_r1.converters.pictures import Images, Unusable, find_images
from vlm_r1.errors import DataError
from vlm_r1.parsing.json_values import is_list, is_object

UNKNOWN_SENTENCE = "it has a box of an unknown sentence, so what it shows is not known"
MISPLACED = "it lists a box that says it is in another image"
UNLISTED = "box that its image does not list, but that says it is in it"
UNREADABLE = "cannot be read"
UNVERIFIED = (
    "negatives not verified: the JSON files hold each image's boxes of its own group alone; the pickles hold all"
)


@dataclass(frozen=True)
class D3Options(DetectionOptions):
    """The question asks for the descriptions of the image's group that are present, and for some that are absent."""

    negatives: tuple[int, int] = option((1, 3), "how many absent descriptions are added to each question (paper: 1:3)")


@dataclass(frozen=True)
class _Image:
    """One image of either layout.

    Attributes:
        image: in COCO's form, with the boxes of the descriptions of its group.
        group: all descriptions of its group; empty if the file does not give them.
        elsewhere: descriptions of other groups that are present too, so they are no negatives.
    """

    image: CocoImage
    group: list[str]
    elsewhere: frozenset[str]


def convert(job: Job, options: D3Options) -> Conversion:
    """Convert the folder of the four pickles, or one of the JSON files: one record for each image.

    Raises:
        DataError: the source has another layout, or its images were not found.
    """
    if job.source.is_dir():
        names, found = _Pickles.read(job.source, job.tally).contents()
    else:
        file = read_coco(job.source, job.tally)  # its categories are the descriptions
        require_images(file, options.unknown_images)
        names, found = [*file.names.values()], [_Image(image, [], frozenset()) for image in file.images]
        if options.negatives != (0, 0):
            job.tally.note(UNVERIFIED, len(found))
    folder = job.source if job.source.is_dir() else job.source.parent
    candidates = [base / name for base in (folder, folder.parent) for name in ("d3_images", "images", "")]
    images = find_images(job, candidates, (one.image.name for one in found if one.image.name))
    return Conversion("ovd", images.root, _lines(job, options, list(dict.fromkeys(names)), found, images))


@dataclass(frozen=True)
class _Pickles:
    """`sentences.pkl`, `annotations.pkl`, `images.pkl` and `groups.pkl`: dictionaries by id.

    Attributes:
        folder: their folder.
        tally: filled while reading.
        sentences: id of a sentence → its text.
        annotations, images, groups: id → row.
    """

    folder: Path
    tally: Tally
    sentences: Mapping[Id, str]
    annotations: Mapping[Id, Any]
    images: Mapping[Id, Any]
    groups: Mapping[Id, Any]

    @classmethod
    def read(cls, folder: Path, tally: Tally) -> _Pickles:
        paths = {name: folder / f"{name}.pkl" for name in ("sentences", "annotations", "images", "groups")}
        tables = {name: _table(path) for name, path in paths.items()}
        texts: dict[Id, str] = {}
        for id_, row in tables.pop("sentences").items():
            try:
                texts[id_] = clean_text(take(row, "raw_sent", str, paths["sentences"], id_))
            except DataError as error:
                tally.drop("sentence", UNREADABLE, example=str(error))
        return cls(folder, tally, texts, **tables)

    def contents(self) -> tuple[list[str], list[_Image]]:
        """All descriptions, and the images with the objects that the descriptions name."""
        path = self.folder / "images.pkl"
        by_image: dict[Id | None, list[Id]] = {}
        for own in self.annotations:
            by_image.setdefault(self._image_of(own), []).append(own)
        found: list[_Image] = []
        for i, (id_, row) in enumerate(self.images.items()):
            try:
                found.append(self._image(id_, row, by_image.get(id_, []), i, (path, id_)))
            except DataError as error:  # of this image, its group or its boxes
                if not self.annotations:  # then no image has an object
                    raise
                self.tally.drop("image", UNREADABLE, example=str(error))
        return list(self.sentences.values()), found

    def _image(self, id_: Id, row: Any, claimed: Collection[Id], i: int, where: tuple[Path, Id]) -> _Image:
        """An image with the boxes that it lists, and with those that name it as their image (`claimed`)."""
        group_id = take(row, "group_id", None, *where)
        inner = take(self.groups.get(group_id), "inner_sent_id", list, self.folder / "groups.pkl", group_id)
        group = {self.sentences[s] for s in map(read_id, inner) if s is not None and s in self.sentences}
        listed = _ids(take(row, "anno_id", list, *where), (*where, "anno_id"))
        objects: list[CocoObject] = []
        unusable = None
        if any(self._image_of(own) not in (None, id_) for own in listed):
            unusable = Unusable(MISPLACED, location(*where))
        unlisted = [own for own in claimed if own not in listed]
        self.tally.note(UNLISTED, len(unlisted), location(*where))
        for own in dict.fromkeys([*listed, *unlisted]):
            made = self._objects(own, id_)
            unusable = made if isinstance(made, Unusable) else unusable
            objects += [] if isinstance(made, Unusable) else made
        name = take(row, "file_name", str, *where)
        wh = (integer_in(row.get("width")), integer_in(row.get("height")))
        inside = [item for item in objects if item.label in group]
        image = CocoImage(id_, name, (wh[0], wh[1]) if wh[0] and wh[1] else None, inside, row, i, unusable)
        return _Image(image, sorted(group), frozenset({item.label for item in objects} - group))

    def _image_of(self, own: Id) -> Id | None:
        """Id of the image that an annotation names; None: it names none."""
        row = self.annotations.get(own)
        return read_id(row.get("image_id")) if is_object(row) else None

    def _objects(self, own: Id, image_id: Id) -> list[CocoObject] | Unusable:
        """Return one object for each description of an annotation."""
        where = (self.folder / "annotations.pkl", own)
        row: Mapping[str, Any] = self.annotations.get(own)  # pyright: ignore[reportAssignmentType]  # `take` checks
        sentence_ids = _ids(take(row, "sent_id", list, *where), (*where, "sent_id"))
        if any(s not in self.sentences for s in sentence_ids):
            return Unusable(UNKNOWN_SENTENCE, f"{location(*where, 'sent_id')}: {shown(sentence_ids)}")
        values = row.get("bbox")
        if is_list(values) and values and isinstance(values[0], list):  # as published, an array of one row
            row = {**row, "bbox": values[0]}
        return [read_object(row, self.sentences[s], image_id) for s in sentence_ids]


def _table(path: Path) -> dict[Id, Any]:
    """Read a dictionary by id and bring its ids to one form.

    Raises:
        DataError: the file holds something else, or two of its ids may be the same.
    """
    table: dict[object, Any] = read_pickle(path)
    if not isinstance(table, dict):
        raise DataError(f"{path}: got {shown(table)}, wanted a dictionary by id")
    ids = _ids(table, (path,))
    check_alike(path.stem, ids, path)
    if len(set(ids)) < len(ids):
        twice = next(id_ for id_ in ids if ids.count(id_) > 1)
        raise DataError(f"{path}: the id {twice} stands there twice, as a number and as a text. Write it once")
    return dict(zip(ids, table.values(), strict=True))


def _ids(values: Collection[Any], where: tuple[object, ...]) -> list[Id]:
    ids = [read_id(value) for value in values]
    for value, id_ in zip(values, ids, strict=True):
        if id_ is None:
            raise DataError(f"{location(*where)}: got {shown(value)}, wanted an id, an integer or a text")
    return [id_ for id_ in ids if id_ is not None]


def _lines(job: Job, options: D3Options, names: list[str], found: list[_Image], images: Images) -> Iterator[Line]:
    for one in job.track(found):
        picture = usable_picture(one.image, images, job.tally)
        if picture is None:
            continue
        contents = apply_limits(contents_of(one.image.objects, picture, job.tally), options, job.tally)
        if isinstance(contents, Unusable):
            job.tally.drop("image", contents.reason, example=picture.name)
            continue
        there = {*contents.present, *contents.incomplete, *one.elsewhere}
        near = [name for name in one.group if name not in there]
        far = [name for name in names if name not in there and name not in one.group]
        line = Line(f"d3-{one.image.id}", picture.name, "", None, {"size": list(picture.wh)})
        made = detection_line(line, contents, far, options, job.tally, harder=near)
        if made:
            yield made


D3 = Converter(
    name="d3",
    summary="D-cube (D³) → detection of descriptions with absent ones added",
    layout="d3_pkl/{sentences,annotations,images,groups}.pkl or d3_json/d3_full_annotations.json, d3_images/",
    options=D3Options,
    convert=convert,
)
