"""Pickles of plain values are read; whatever names a function is refused before it runs."""

import os
import pickle
import struct
import subprocess
import sys
from collections import OrderedDict

import numpy as np
import pytest

from vlm_r1.converters.pickles import read_pickle
from vlm_r1.errors import DataError

REFS = [{"ref_id": 7, "sentences": [{"sent_id": 1, "sent": "the man"}], "box": [1.5, -2], "seen": True, "none": None}]


def written(tmp_path, data: bytes):
    path = tmp_path / "refs(unc).p"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_in_every_protocol(tmp_path, protocol):
    assert read_pickle(written(tmp_path, pickle.dumps(REFS, protocol))) == REFS


# What Python 2 writes: its str is bytes (opcodes S and U), its unicode is text (X), its pickles have protocol 0 to 2.
PYTHON_2 = [
    pytest.param(b"(dp0\nS'sent'\np1\nS'the man'\np2\ns.", {"sent": "the man"}, id="protocol 0, str"),
    pytest.param(b"\x80\x02}q\x00U\x04sentU\x07the mans.", {"sent": "the man"}, id="protocol 2, str"),
    pytest.param(b"\x80\x02}q\x00U\x04sentX\x05\x00\x00\x00caf\xc3\xa9s.", {"sent": "café"}, id="protocol 2, unicode"),
    pytest.param(b"\x80\x02U\x05caf\xc3\xa9.", "café", id="a str that is UTF-8"),
    pytest.param(b"\x80\x02U\x04caf\xe9.", "café", id="a str that is latin-1"),
    pytest.param(b"\x80\x02(I1\nL123456789012345678901L\nt.", [1, 123456789012345678901], id="int and long"),
]


@pytest.mark.parametrize(("data", "value"), PYTHON_2)
def test_pickles_of_python_2(tmp_path, data, value):
    assert read_pickle(written(tmp_path, data)) == value


class Runs:
    """Unpickled, it runs a command that leaves a file."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_pickle_that_would_run_a_command_is_refused(tmp_path, protocol):
    trace = tmp_path / "it ran"
    path = written(tmp_path, pickle.dumps([Runs(os.system, f"touch '{trace}'")], protocol))
    with pytest.raises(DataError, match=r"names posix\.system, which is not read: a pickle .* can run any program"):
        read_pickle(path)
    assert not trace.exists()
    pickle.loads(path.read_bytes())  # the control: without our guard it does run
    assert trace.exists()


@pytest.mark.parametrize(
    ("value", "named"),
    [
        pytest.param(Runs(eval, "1 + 1"), "eval", id="eval"),
        pytest.param(Runs(getattr, [], "append"), "getattr", id="getattr"),
        pytest.param(Runs(sys.exit), "sys.exit", id="exit"),
        pytest.param(OrderedDict(a=1), "collections.OrderedDict", id="a harmless class"),
        pytest.param(np.array([{}], dtype=object), "wanted numbers", id="an array of objects"),
        pytest.param(np.array([(1, 2.0)], dtype="i4,f4"), "wanted numbers", id="an array of structs"),
    ],
)
def test_everything_else_that_is_named_is_refused(tmp_path, value, named):
    with pytest.raises(DataError, match=named):
        read_pickle(written(tmp_path, pickle.dumps(value, protocol=2)))


def test_old_opcodes_that_call_are_refused(tmp_path):
    for data in (b"(S'ls'\nios\nsystem\n.", b"cos\nsystem\n(S'ls'\ntR.", b"(cos\nsystem\nS'ls'\no."):
        with pytest.raises(DataError, match=r"names os\.system"):
            read_pickle(written(tmp_path, data))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize(
    "array",
    [
        pytest.param(np.array([[10.5, 20, 30, 40]]), id="a row of floats, as D-cube's boxes"),
        pytest.param(np.array([123], dtype=np.uint32), id="an area"),
        pytest.param(np.arange(24, dtype=">i2").reshape(2, 3, 4), id="three axes, big endian"),
        pytest.param(np.array(2.5), id="without axes"),
        pytest.param(np.float64(7.25), id="a scalar"),
        pytest.param(np.zeros((0, 4)), id="empty"),
    ],
)
def test_arrays_of_numbers_become_lists(tmp_path, array, protocol):
    assert read_pickle(written(tmp_path, pickle.dumps({"bbox": array}, protocol))) == {"bbox": array.tolist()}


def test_arrays_written_by_python_2(tmp_path):
    """Python 2 writes the numbers of an array as its str, and numpy 1 names numpy.core."""
    numbers = struct.pack("<4d", 1, 2, 3, 4)
    dtype = b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    head = b"\x80\x02cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
    data = head + b"(K\x01(K\x01K\x04t" + dtype + b"\x89U" + bytes([len(numbers)]) + numbers + b"tb."
    assert read_pickle(written(tmp_path, data)) == [[1, 2, 3, 4]]


def test_a_pickle_cannot_change_what_the_next_one_finds(tmp_path):
    """BUILD sets attributes of whatever lies on the stack; the stand-ins of one file are not those of another."""
    hostile = b"\x80\x02c_codecs\nencode\n}U\x04trapK\x01sb0N."
    read_pickle(written(tmp_path, hostile))
    value = pickle.dumps(b"\xff", protocol=2)  # names _codecs.encode
    assert read_pickle(written(tmp_path, value)) == "ÿ"


def test_shared_lists_are_not_unfolded(tmp_path):
    value: list = [1]
    for _ in range(60):
        value = [value, value]  # 2⁶⁰ places of one number
    found = read_pickle(written(tmp_path, pickle.dumps(value)))
    for _ in range(60):
        found = found[1]
    assert found == [1]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"no pickle at all", id="text"),
        pytest.param(pickle.dumps(REFS)[:-9], id="cut off"),
        pytest.param(b"\x80\x02]q\x00h\x00a.", id="a list that holds itself"),
        pytest.param(b"\x80\x02Pabc\n.", id="a persistent id"),
    ],
)
def test_damaged_files(tmp_path, data):
    with pytest.raises(DataError, match="not a pickle, or damaged"):
        read_pickle(written(tmp_path, data))


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match="cannot read the file"):
        read_pickle(tmp_path / "gone.p")


def shared_pairs(depth: int) -> bytes:
    """A pickle's opcodes that leave a tuple on the stack, in which one text has 2^depth places."""
    return b"X\x01\x00\x00\x00a" + b"2\x86" * depth  # DUP, TUPLE2


TEXT_OF_A_MEGABYTE = b"X\x40\x42\x0f\x00" + b"\xc3\xa9" * 500_000
ENCODE = b"\x80\x02c_codecs\nencode\nq\x000" + TEXT_OF_A_MEGABYTE + b"q\x010]("
NUMPY_DTYPE, NUMPY_ARRAY = b"cnumpy\ndtype\n", b"cnumpy.core.multiarray\n_reconstruct\nNNN\x87R"
HOSTILE = [
    pytest.param(b"\x80\x02}" + shared_pairs(60) + b"Ns.", "a key that is tuple", id="a shared tuple as a key"),
    pytest.param(b"\x80\x02}(" + shared_pairs(60) + b"Nu.", "a key that is tuple", id="as one of several keys"),
    pytest.param(b"\x80\x02(" + shared_pairs(60) + b"Nd.", "a key that is tuple", id="as a key of an old dictionary"),
    pytest.param(b"\x80\x04\x8f(" + shared_pairs(60) + b"\x90.", "it holds a set", id="as an item of a set"),
    pytest.param(b"\x80\x04(" + shared_pairs(60) + b"\x91.", "it holds a set", id="as an item of a frozen set"),
    pytest.param(b"\x80\x02" + NUMPY_DTYPE + shared_pairs(60) + b"\x85R.", "wanted numbers", id="as a dtype"),
    pytest.param(
        b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00a" + shared_pairs(60) + b"\x86R.",
        "another encoding",
        id="as the name of an encoding",
    ),
    pytest.param(
        b"\x80\x02" + NUMPY_ARRAY + b"(K\x01" + shared_pairs(60) + b"K\x03\x86" + NUMPY_DTYPE
        + b"X\x02\x00\x00\x00u1\x85R\x89X\x01\x00\x00\x00atb.",
        "do not fill an array",
        id="as the side of an array",
    ),
    pytest.param(ENCODE + b"h\x00h\x01\x85R" * 100_000 + b"e.", "larger than the file", id="one text, many bytes"),
    pytest.param(b"\x80\x02\x8b\xff\xff\xff\x7f1.", "a huge number", id="a huge number"),
    pytest.param(b"\x80\x02B\xff\xff\xff\xffa.", "not a pickle, or damaged", id="4 GB of text, announced"),
    pytest.param(b"\x80\x05\x96" + b"\xff" * 7 + b"\x0fa.", "not a pickle, or damaged", id="a huge array, announced"),
    pytest.param(b"\x80\x02c_codecs\nencode\n.", "where a value is wanted", id="a stand-in alone"),
    pytest.param(b"\x80\x02cnumpy\nndarray\n.", "where a value is wanted", id="a stand-in of a type"),
]  # fmt: skip


def in_a_small_process(path) -> str:
    """Read a pickle in a process of its own, of 10 s of CPU time and 1 GB of addresses; return what it says."""
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_CPU, (10, 10))\n"
        "from pathlib import Path; from vlm_r1.errors import DataError\n"
        "from vlm_r1.converters.pickles import read_pickle\n"
        "resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
        "try: print(len(read_pickle(Path(sys.argv[1]))))\n"
        "except DataError as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-500:]
    return done.stdout


@pytest.mark.parametrize(("data", "reason"), HOSTILE)
def test_a_short_pickle_ends_in_bounded_time_and_memory(tmp_path, data, reason):
    assert reason in in_a_small_process(written(tmp_path, data))


def test_a_far_place_in_the_memo_costs_nothing(tmp_path):
    path = written(tmp_path, b"\x80\x02]r\x00\x00\x00\x08.")
    assert in_a_small_process(path) == "0\n"
    code = "import pickle, resource, sys; resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))\n"
    command = [sys.executable, "-c", code + "pickle.load(open(sys.argv[1], 'rb'))", str(path)]
    control = subprocess.run(command, capture_output=True, text=True)
    assert "MemoryError" in control.stderr  # Python's own reader wants 2 GB


def test_a_text_in_many_places_is_decoded_once(tmp_path):
    data = b"\x80\x02](" + b"U\xc8" + b"\xc3\xa9" * 100 + b"q\x00" + b"h\x00" * 1000 + b"e."
    found = read_pickle(written(tmp_path, data))
    assert found == ["é" * 100] * 1001
    assert len({id(text) for text in found}) == 1
