"""Vision files: what their names say, whether they are whole, and every row of real ones."""

from __future__ import annotations

import csv
import hashlib
import io
import random
import tracemalloc
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ravenwh.domain.errors import RavenwhError, Refused
from ravenwh.domain.messages import Candle, Trade
from ravenwh.sources.catalog import Named, find_files, named
from ravenwh.sources.rows import COLUMNS
from ravenwh.sources.vision import BLOCK_BYTES, VisionFile

OPEN = 1_704_067_200_000
HEADER = (
    "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
    "taker_buy_volume,taker_buy_quote_volume,ignore"
)

Bad = list[tuple[str, int, str]]


def row(number: int = 0) -> str:
    at = OPEN + number * 60_000
    return f"{at},10,12,9,11,{number + 1},{at + 59_999},38.5,7,1.25,13.75,0"


def rows(count: int) -> str:
    return "".join(row(number) + "\n" for number in range(count))


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def write_zip(path: Path, members: dict[str, str]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return path


def write_checksum(path: Path, digest: str | None = None, name: str | None = None) -> Path:
    digest = digest or hashlib.sha256(path.read_bytes()).hexdigest()
    return write(path.with_name(path.name + ".CHECKSUM"), f"{digest}  {name or path.name}\n")


def find(*paths: Path, **told: str) -> list[VisionFile]:
    return find_files(paths, venue="BINANCE_SPOT", **told)[0]  # type: ignore[arg-type]


def read(files: Iterable[VisionFile]) -> tuple[list[Candle | Trade], Bad]:
    bad: Bad = []
    messages = [
        message for file in files for message in file.messages(lambda *told: bad.append(told))
    ]
    return messages, bad


def volumes(messages: list[Candle | Trade]) -> list[float]:
    return [message.volume for message in messages if isinstance(message, Candle)]


# --- real files


def plain_rows(path: Path) -> list[list[str]]:
    """The rows of an archive's csv files, read in another way than ours."""
    with zipfile.ZipFile(path) as archive:
        text = "".join(archive.read(name).decode() for name in archive.namelist())
    return [fields for fields in csv.reader(io.StringIO(text)) if fields[0].isdigit()]


def test_every_recorded_kline_is_what_the_file_says(shared_data: Path) -> None:
    total = 0
    for path in sorted((shared_data / "klines_vision").rglob("*.zip")):
        files = find(path)
        assert len(files) == 1
        messages, bad = read(files)
        assert not bad
        symbol, interval = path.name.split("-")[:2]
        expected = plain_rows(path)
        assert files[0].check() == len(expected)
        for fields, message in zip(expected, messages, strict=True):
            absent = fields[8] == "0" and float(fields[5]) > 0
            assert message == Candle(
                venue="BINANCE_SPOT",
                symbol=symbol,
                interval=interval,
                producer="replay",
                open_time=int(fields[0]) * 10**6,
                close_time=int(fields[6]) * 10**6,
                event_time=int(fields[6]) * 10**6,
                open=float(fields[1]),
                high=float(fields[2]),
                low=float(fields[3]),
                close=float(fields[4]),
                volume=float(fields[5]),
                quote_volume=None if absent else float(fields[7]),
                trade_count=None if absent else int(fields[8]),
                taker_buy_volume=None if absent else float(fields[9]),
                taker_buy_quote_volume=None if absent else float(fields[10]),
                closed=True,
            )
        total += len(messages)
    assert total == 83_898


def test_every_recorded_trade_is_what_the_file_says(shared_data: Path) -> None:
    total = 0
    for path in sorted((shared_data / "trades_vision").rglob("*.zip")):
        messages, bad = read(find(path))
        assert not bad
        for fields, message in zip(plain_rows(path), messages, strict=True):
            assert message == Trade(
                venue="BINANCE_SPOT",
                symbol="BTCUSDT",
                producer="replay",
                event_time=int(fields[4]) * 10**6,
                price=float(fields[1]),
                quantity=float(fields[2]),
                side="sell" if fields[5].lower() == "true" else "buy",
                trade_id=fields[0],
            )
        total += len(messages)
    assert total == 43_218


def test_a_folder_is_all_its_files(shared_data: Path) -> None:
    files, ignored = find_files([shared_data / "klines_vision"], venue="BINANCE_SPOT")
    assert [file.path for file in files] == sorted((shared_data / "klines_vision").rglob("*.zip"))
    assert not ignored
    assert len(read(files)[0]) == 83_898


# --- names


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("BTCUSDT-1m-2024-01.zip", Named(kind="klines", symbol="BTCUSDT", interval="1m")),
        ("BTCUSDT-1m-2024-01-05.csv", Named(kind="klines", symbol="BTCUSDT", interval="1m")),
        ("1000PEPEUSDT-12h.CSV", Named(kind="klines", symbol="1000PEPEUSDT", interval="12h")),
        (
            "BTCUSD_240329-1d-2024-01.zip",
            Named(kind="klines", symbol="BTCUSD_240329", interval="1d"),
        ),
        ("BTCUSDT-trades-2024-08-08.zip", Named(kind="trades", symbol="BTCUSDT")),
        ("BTCUSDT-aggTrades-2024-08.csv", Named(kind="aggTrades", symbol="BTCUSDT")),
        ("BTCUSDT-1mo-2024-01.zip", Named()),
        ("BTCUSDT-1M-2024-01.zip", Named()),
        ("BTCUSDT-bookDepth-2024-01-01.zip", Named()),
        ("BTCUSDT-2024-01.zip", Named()),
        ("klines.csv", Named()),
        ("BTCUSDT-1m-2024-01.zip.CHECKSUM", Named()),
        ("markPriceKlines/BTCUSDT/1m/BTCUSDT-1m-2024-01.zip", Named()),
    ],
)
def test_a_name_says(name: str, expected: Named) -> None:
    assert named(Path(name)) == expected


@pytest.mark.parametrize(
    ("name", "told", "wanted"),
    [
        ("data.csv", {}, "--symbol and --interval (for klines) or --kind (for trades)"),
        ("data.csv", {"symbol": "BTCUSDT"}, "give --interval (for klines) or --kind"),
        ("data.csv", {"interval": "1m"}, "give --symbol"),
        ("data.csv", {"kind": "klines", "symbol": "BTCUSDT"}, "give --interval"),
        ("data.csv", {"kind": "trades"}, "give --symbol"),
        ("BTCUSDT-1mo-2024-01.csv", {}, "the 1d files"),
        ("markPriceKlines/BTCUSDT-1m-2024-01.csv", {}, "no klines of trades"),
        ("BTCUSDT-trades-2024-01.csv", {"kind": "klines"}, "give --interval"),
        ("BTCUSDT-1m-2024-01.csv", {"interval": "1x"}, "interval '1x' is not known"),
        ("BTCUSDT-1m-2024-01.csv", {"interval": "1m", "kind": "trades"}, "belongs to klines"),
    ],
)
def test_a_name_that_does_not_say_names_the_option(
    tmp_path: Path, name: str, told: dict[str, str], wanted: str
) -> None:
    path = write(tmp_path / name, rows(1))
    with pytest.raises(Refused) as caught:
        find(path, **told)
    assert wanted in str(caught.value)


def test_what_is_told_goes_before_the_name(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-5m-2024-01.csv", rows(3))
    (file,) = find(path, symbol="BTCPERP", interval="1m")
    messages, bad = read([file])
    assert {(m.symbol, m.interval) for m in messages if isinstance(m, Candle)} == {
        ("BTCPERP", "1m")
    }
    assert not bad
    # As 5m, only the first row opens where a period does.
    messages, bad = read(find(path))
    assert volumes(messages) == [1.0]
    assert [line for _, line, _ in bad] == [2, 3]


def test_a_longer_kline_is_no_kline_of_a_shorter_interval(tmp_path: Path) -> None:
    text = f"{OPEN},1,1,1,1,1,{OPEN + 299_999},1,1,1,1,0\n"
    messages, bad = read(find(write(tmp_path / "BTCUSDT-1m-2024-01.csv", text)))
    assert not messages
    assert "more than 1m after open_time" in bad[0][2]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("BTCUSDT-1m-2024-01.gz", "ends in .gz"), ("BTCUSDT-1m-2024-01", "ends in nothing")],
)
def test_other_endings_are_refused(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        find(write(tmp_path / name, rows(1)))


def test_a_missing_file_and_an_empty_folder_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="there is no file"):
        find(tmp_path / "BTCUSDT-1m-2024-01.csv")
    with pytest.raises(Refused, match="holds no Binance Vision file"):
        find(tmp_path)


def test_a_folder_passes_over_what_is_none_of_ours(tmp_path: Path) -> None:
    good = write(tmp_path / "b" / "BTCUSDT-1m-2024-01.csv", rows(1))
    also = write(tmp_path / "a" / "ETHUSDT-trades-2024-01-01.csv", "")
    other = write(tmp_path / "BTCUSDT-bookDepth-2024-01-01.csv", "x")
    mark = write(tmp_path / "markPriceKlines" / "BTCUSDT-1m-2024-01.csv", rows(1))
    write(tmp_path / "notes.txt", "x")
    files, ignored = find_files([tmp_path], venue="BINANCE_SPOT")
    assert [file.path for file in files] == [also, good]
    assert sorted(ignored) == sorted([other, mark])


# --- archives and checksums


def test_an_archive_of_several_files(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "download.zip",
        {
            "b/ETHUSDT-1m-2024-01.csv": rows(2),
            "BTCUSDT-1m-2024-01.csv": HEADER + "\n" + rows(1),
            "README.txt": "nothing",
        },
    )
    files = find(path)
    assert [(file.member, file.symbol) for file in files] == [
        ("BTCUSDT-1m-2024-01.csv", "BTCUSDT"),
        ("b/ETHUSDT-1m-2024-01.csv", "ETHUSDT"),
    ]
    messages, bad = read(files)
    assert (volumes(messages), bad) == ([1.0, 1.0, 2.0], [])


def test_an_archive_whose_two_names_differ_is_refused_unless_told(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "BTCUSDT-1m-2024-01.zip", {"ETHUSDT-1m-2024-01.csv": rows(1)})
    with pytest.raises(Refused, match="differ in symbol, interval or kind"):
        find(path)
    assert find(path, symbol="ETHUSDT")[0].symbol == "ETHUSDT"


def test_an_archive_without_csv_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "BTCUSDT-1m-2024-01.zip", {"a.txt": "x"})
    with pytest.raises(Refused, match=r"holds no \.csv, but a\.txt"):
        find(path)


@pytest.mark.parametrize("name", [None, "*BTCUSDT-1m-2024-01.csv", "./BTCUSDT-1m-2024-01.csv"])
def test_a_right_checksum_is_accepted(tmp_path: Path, name: str | None) -> None:
    path = write(tmp_path / "BTCUSDT-1m-2024-01.csv", rows(1))
    write_checksum(path, name=name)
    assert len(find(path)) == 1


def test_a_wrong_checksum_names_both(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1m-2024-01.csv", rows(1))
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    write_checksum(path, digest="0" * 64)
    with pytest.raises(Refused) as caught:
        find(path)
    assert found in str(caught.value)
    assert "0" * 64 in str(caught.value)


@pytest.mark.parametrize("text", ["", "hello", "0" * 64 + "  OTHER-1m-2024-01.csv", "\xff\n"])
def test_a_checksum_of_something_else_is_refused(tmp_path: Path, text: str) -> None:
    path = write(tmp_path / "BTCUSDT-1m-2024-01.csv", rows(1))
    write(tmp_path / "BTCUSDT-1m-2024-01.csv.CHECKSUM", text)
    with pytest.raises(Refused, match="holds no line with the SHA-256 of"):
        find(path)


@pytest.mark.parametrize("keep", [0, 1, 30, 200, -40, -1])
def test_a_cut_archive_is_refused(tmp_path: Path, keep: int) -> None:
    path = write_zip(tmp_path / "BTCUSDT-1m-2024-01.zip", {"BTCUSDT-1m-2024-01.csv": rows(500)})
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(Refused, match="cannot be read"):
        find(path)


def test_a_wrong_crc_is_refused_by_the_check(tmp_path: Path) -> None:
    path = tmp_path / "BTCUSDT-1m-2024-01.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("BTCUSDT-1m-2024-01.csv", rows(500))
    data = bytearray(path.read_bytes())
    at = data.index(b"38.5")
    data[at] = ord("9")
    path.write_bytes(data)
    (file,) = find(path)
    with pytest.raises(Refused, match="Bad CRC-32"):
        file.check()
    with pytest.raises(Refused, match="Bad CRC-32"):
        read([file])


def test_a_locked_archive_is_refused(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "BTCUSDT-1m-2024-01.zip", {"BTCUSDT-1m-2024-01.csv": rows(1)})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # encrypted, says the local header
    data[data.index(b"PK\x01\x02") + 8] |= 1  # and the directory
    path.write_bytes(data)
    (file,) = find(path)
    with pytest.raises(Refused, match="password required"):
        file.check()


@settings(
    max_examples=150,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(at=st.integers(0, 10_000), value=st.integers(0, 255), cut=st.integers(0, 10_000))
def test_a_changed_archive_gives_rows_or_refused(
    tmp_path: Path, at: int, value: int, cut: int
) -> None:
    path = write_zip(tmp_path / "BTCUSDT-1m-2024-01.zip", {"BTCUSDT-1m-2024-01.csv": rows(20)})
    data = bytearray(path.read_bytes())
    data[at % len(data)] = value
    path.write_bytes(data[: max(len(data) - cut, 0)] if cut < len(data) else data)
    try:
        files = find(path)
        lines = sum(file.check() for file in files)
        messages, bad = read(files)
    except Refused:
        return
    # The CRC holds, so that what is read is what was written.
    assert (lines, volumes(messages), bad) == (20, [n + 1.0 for n in range(20)], [])


# --- text


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("start", ["", "\ufeff", HEADER + "\n", "\ufeff" + HEADER + "\n"])
@pytest.mark.parametrize("finish", ["", "\n", "\n\n"])
def test_header_line_ends_and_byte_order_mark_change_nothing(
    tmp_path: Path, start: str, end: str, finish: str
) -> None:
    text = (start + rows(3).rstrip("\n") + finish).replace("\n", end)
    (file,) = find(write(tmp_path / "BTCUSDT-1m-2024-01.csv", text))
    assert file.check() >= 3
    messages, bad = read([file])
    assert (volumes(messages), bad) == ([1.0, 2.0, 3.0], [])


def test_a_header_in_other_words_is_understood(tmp_path: Path) -> None:
    header = (
        "Open time,Open,High,Low,Close,Volume,Close time,Quote asset volume,Number of trades,"
        "Taker buy base asset volume,Taker buy quote asset volume,Ignore"
    )
    messages, bad = read(find(write(tmp_path / "BTCUSDT-1m-2024-01.csv", f"{header}\n{rows(2)}")))
    assert (volumes(messages), bad) == ([1.0, 2.0], [])


def test_a_header_with_columns_in_another_order_is_refused(tmp_path: Path) -> None:
    header = HEADER.replace("open,high", "high,open")
    (file,) = find(write(tmp_path / "BTCUSDT-1m-2024-01.csv", f"{header}\n{rows(2)}"))
    with pytest.raises(Refused, match=r"\.csv:1: the header has the column 'high'"):
        file.check()


def test_bad_rows_are_named_by_file_and_line_and_the_rest_is_read(tmp_path: Path) -> None:
    lines = [HEADER, row(0), "", "garbage", row(1), row(2) + ",1", HEADER, row(3)]
    path = write(tmp_path / "BTCUSDT-1m-2024-01.csv", "\n".join(lines))
    messages, bad = read(find(path))
    assert volumes(messages) == [1.0, 2.0, 4.0]
    assert [(label, line) for label, line, _ in bad] == [(str(path), n) for n in (4, 6, 7)]
    archive = write_zip(tmp_path / "x.zip", {path.name: "\n".join(lines)})
    _, bad = read(find(archive))
    assert [(label, line) for label, line, _ in bad] == [
        (f"{archive}/{path.name}", n) for n in (4, 6, 7)
    ]


def test_a_cut_last_row_is_bad(tmp_path: Path) -> None:
    path = write(tmp_path / "BTCUSDT-1m-2024-01.csv", rows(3)[:-25])
    messages, bad = read(find(path))
    assert volumes(messages) == [1.0, 2.0]
    assert [line for _, line, _ in bad] == [3]


def test_lines_are_whole_wherever_a_block_ends(tmp_path: Path) -> None:
    count = 3 * BLOCK_BYTES // len(row())
    path = write(tmp_path / "BTCUSDT-1m-2024-01.csv", rows(count).replace("\n", "\r\n"))
    messages, bad = read(find(path))
    assert (volumes(messages), bad) == ([float(n + 1) for n in range(count)], [])


@pytest.mark.parametrize("length", [5_000, BLOCK_BYTES, 4 * BLOCK_BYTES + 17])
@pytest.mark.parametrize("filler", ["1", ","])
def test_an_endless_line_is_one_bad_row(tmp_path: Path, length: int, filler: str) -> None:
    text = rows(2) + filler * length + "\n" + row(2)
    messages, bad = read(find(write(tmp_path / "BTCUSDT-1m-2024-01.csv", text)))
    assert volumes(messages) == [1.0, 2.0, 3.0]
    assert [(line, reason) for _, line, reason in bad] == [
        (3, "the line is longer than 4096 bytes")
    ]


def test_a_file_is_never_held_whole(tmp_path: Path) -> None:
    path = write_zip(
        tmp_path / "BTCUSDT-1m-2024-01.zip",
        {"BTCUSDT-1m-2024-01.csv": "1" * 60_000_000},  # 60 MB without a line end
    )
    (file,) = find(path)
    tracemalloc.start()
    try:
        assert file.check() == 1
        assert sum(1 for _ in file.messages(lambda *_: None)) == 0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 6_000_000


FIELD = st.one_of(
    st.integers().map(str),
    st.floats().map(str),
    st.sampled_from([str(OPEN), str(OPEN + 59_999), "open_time", "id", "true", "", "1_0", "\x00"]),
    st.text(max_size=5),
)
LINES = st.lists(
    st.one_of(
        st.lists(FIELD, min_size=0, max_size=14).map(",".join),
        st.builds(row, st.integers(0, 50)),
        st.text(max_size=30),
    ),
    max_size=12,
).map(lambda lines: "\n".join(lines).encode("utf-8", "replace"))


@settings(
    max_examples=400,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    data=st.one_of(st.binary(max_size=300), LINES),
    name=st.sampled_from(["A-1m-x.csv", "A-1h-x.csv", "A-trades-x.csv", "A-aggTrades-x.csv"]),
)
def test_any_bytes_give_rows_or_counted_bad_rows(tmp_path: Path, data: bytes, name: str) -> None:
    (file,) = find(write(tmp_path / name, data))
    lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    try:
        assert file.check() >= len(lines)
        messages, bad = read([file])
    except RavenwhError as error:
        assert "the header has the column" in str(error)  # noqa: PT017
        return
    first = data.removeprefix(b"\xef\xbb\xbf").split(b"\n")[0].split(b",")[0].strip().lower()
    header = first.decode("latin-1").strip('"') == COLUMNS[file.kind][0]
    assert len(messages) + len(bad) == len(lines) - header
    assert all(reason and 1 <= line <= data.count(b"\n") + 1 for _, line, reason in bad)


def test_read_again_in_another_order_it_is_the_same(tmp_path: Path) -> None:
    lines = rows(200).splitlines()
    first, _ = read(find(write(tmp_path / "BTCUSDT-1m-a.csv", "\n".join(lines))))
    random.Random(1).shuffle(lines)
    second, _ = read(find(write(tmp_path / "BTCUSDT-1m-b.csv", "\n".join(lines))))
    assert sorted(second, key=lambda message: message.event_time) == first
