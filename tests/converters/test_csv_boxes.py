"""Tables: the usual headers, columns by name and by number, units, and rows that cannot be read."""

import pytest

from vlm_r1.errors import ConfigError, DataError

CAT = [{"bbox_2d": [10, 20, 110, 220], "label": "cat"}]
ROBOFLOW = "filename,width,height,class,xmin,ymin,xmax,ymax\n"


@pytest.fixture
def lay(tmp_path, picture_file):
    def write(text, pictures=("a.jpg",), name="_annotations.csv"):
        for picture in pictures:
            picture_file(tmp_path / "table" / picture)
        path = tmp_path / "table" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return path

    return write


OPEN_IMAGES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
)


@pytest.mark.parametrize(
    ("text", "options"),
    [
        pytest.param(f"{ROBOFLOW}a.jpg,640,480,cat,10,20,110,220\n", {}, id="Roboflow, TensorFlow"),
        pytest.param(f"\ufeff{ROBOFLOW}a.jpg,640,480,cat,10,20,110,220\n", {}, id="a byte order mark"),
        pytest.param("image;label;x;y;width;height\na.jpg;cat;10;20;100;200\n", {}, id="left, top, width, height"),
        pytest.param("path\tname\tcx\tcy\tw\th\na.jpg\tcat\t60\t120\t100\t200\n", {}, id="centre, with tabs"),
        pytest.param("image,label,left,top,right,bottom\n./a.jpg,cat,10,20,110,220\n", {}, id="edges"),
        # 10/640 … 110/640, 20/480 … 220/480
        pytest.param(
            f"{OPEN_IMAGES}a,xclick,cat,1,0.015625,0.171875,0.0416667,0.4583333,0,0,0,0,0\n", {}, id="Open Images"
        ),
        pytest.param("TRAIN,gs://b/a.jpg,cat,0.015625,0.0416667,,,0.171875,0.4583333,,\n", {}, id="AutoML"),
        pytest.param(
            "f,c,l,t,r,b\na.jpg,cat,10,20,110,220\n", {"columns": "image=f,label=c,x1=l,y1=t,x2=r,y2=b"}, id="own names"
        ),
        pytest.param("a.jpg,10,20,110,220,cat\n", {"columns": "image=1,x1=2,y1=3,x2=4,y2=5,label=6"}, id="no header"),
        pytest.param(
            "image,label,x1,y1,x2,y2\na.jpg,cat,15.625,41.6667,171.875,458.3333\n",
            {"coordinates": "norm_1000"},
            id="0-1000",
        ),
        pytest.param(f'{ROBOFLOW}"a.jpg",640,480,"cat","10","20","110","220"\n\n', {}, id="quoted"),
        pytest.param(f"{ROBOFLOW}C:\\data\\table\\a.jpg,640,480,cat,10,20,110,220\n", {}, id="a path of Windows"),
    ],
)
def test_the_same_box(convert, lay, text, options):
    done = convert("csv", lay(text), **options)
    assert done.answers() == {"a.jpg": CAT}
    assert done.task == "ovd"


def test_rows_of_one_picture_are_one_record(convert, lay):
    rows = ["b c.jpg,640,480,dog,0,0,9,9", "a.jpg,640,480,cat,10,20,110,220", "b c.jpg,640,480,cat,10,20,110,220"]
    done = convert("csv", lay(ROBOFLOW + "\n".join(rows), ("a.jpg", "b c.jpg")))
    assert done.answers() == {"b c.jpg": [{"bbox_2d": [0, 0, 9, 9], "label": "dog"}, *CAT], "a.jpg": CAT}


def test_a_row_without_box_is_a_picture_without_objects(convert, lay):
    table = lay("image,x1,y1,x2,y2,label\na.jpg,10,20,110,220,cat\nb.jpg,,,,,\n", ("a.jpg", "b.jpg"))
    assert convert("csv", table, mode="all").answers() == {"a.jpg": CAT, "b.jpg": "None"}


def test_splits(convert, lay):
    text = "split,image,label,x1,y1,x2,y2\nTRAIN,a.jpg,cat,10,20,110,220\nVALIDATE,b.jpg,cat,10,20,110,220\n"
    assert convert("csv", lay(text, ("a.jpg", "b.jpg")), split="val").answers() == {"b.jpg": CAT}


def test_folders_of_splits(convert, lay):
    for split in ("train", "valid"):
        path = lay(f"{ROBOFLOW}a.jpg,640,480,cat,10,20,110,220\n", (f"{split}/a.jpg",), f"{split}/_annotations.csv")
    assert convert("csv", path.parent.parent, split="valid").answers() == {"valid/a.jpg": CAT}


def test_names_of_labels_and_groups(convert, lay, tmp_path):
    (tmp_path / "names.csv").write_text("/m/1,cat\n/m/2,dog\n")
    rows = "a,x,/m/1,1,0.015625,0.171875,0.0416667,0.4583333,0,0,0,0,0\na,x,/m/2,1,0,1,0,1,0,0,1,0,0\n"
    done = convert("csv", lay(OPEN_IMAGES + rows), label_names=str(tmp_path / "names.csv"))
    assert done.answers() == {"a.jpg": CAT}
    assert done.dropped == {"box: crowd region": 1}


def test_odd_rows(convert, lay):
    rows = [
        "a.jpg,640,480,cat,10,20,110,220",
        "a.jpg,640,480,dog,10,20,x,220",
        "a.jpg,640,480,bird,110,20,10,220",
        "b.jpg,640,480,cat,10,20,110,220",
        "b.jpg,64,48,cat,10,20,110,220",
        ",640,480,cat,10,20,110,220",
        "c.jpg,640",
        "gone.jpg,640,480,cat,10,20,110,220",
        "c.jpg,640,480,,10,20,110,220",
    ]
    done = convert("csv", lay(ROBOFLOW + "\n".join(rows), ("a.jpg", "b.jpg", "c.jpg")))
    assert done.answers() == {"a.jpg": CAT}
    assert done.dropped == {
        "box: without the finite numbers of its shape": 1,
        "box: of negative width or height": 1,
        "image: rows of one picture give it several sizes": 1,
        "image: it has a box of an unknown category, so what it shows is not known": 1,
        "image: image not found": 1,
        "row: without a file name": 1,
    }


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        pytest.param("f,l\na.jpg,cat\n", {}, DataError, "no column is known to hold image", id="unknown header"),
        pytest.param("image,label\na.jpg,cat\n", {}, DataError, "hold the four numbers of a box", id="no boxes"),
        pytest.param(
            "f,l\n", {"columns": "image=g"}, DataError, "--columns names 'g', and the header has f, l", id="not there"
        ),
        pytest.param("f,l\n", {"columns": "picture=f"}, ConfigError, "wanted pairs such as", id="unknown thing"),
        pytest.param("f,l\n", {"columns": "image=f,image=l"}, ConfigError, "each once", id="twice"),
        pytest.param("", {}, DataError, "the table is empty", id="empty"),
        pytest.param(
            "image,label,x1,y1,x2,y2\na.jpg,cat,0.1,0.1,0.5,0.5\n",
            {},
            DataError,
            "Say --coordinates norm_1",
            id="fractions",
        ),
        pytest.param(f'image,label\n"{"x" * 200_000}",cat\n', {}, DataError, "not a readable table", id="a huge cell"),
    ],
)
def test_tables_that_cannot_be_read(convert, lay, text, options, error, message):
    with pytest.raises(error, match=message):
        convert("csv", lay(text), **options)
