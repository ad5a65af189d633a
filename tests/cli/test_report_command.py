"""`roofline report`: the same page as the command's own --html, and clear errors for what is no record."""

import json
from pathlib import Path

import pytest

from roofline.cli.app import run

ARGUMENTS = ["predict", "llama-3.1-8b", "h100-sxm"]


def test_the_page_is_byte_for_byte_that_of_html(tmp_path: Path, capsys, monkeypatch) -> None:
    page, record = tmp_path / "own.html", tmp_path / "record.json"
    # the command line is part of the record: both runs must be the same one
    monkeypatch.setattr("sys.argv", ["roofline", *ARGUMENTS, "--json", "--html", str(page)])
    assert run([*ARGUMENTS, "--json", "--html", str(page)]) == 0
    record.write_text(capsys.readouterr().out, "utf-8")
    assert run(["report", str(record)]) == 0
    assert (tmp_path / "record.html").read_bytes() == page.read_bytes()
    assert capsys.readouterr().out == ""
    assert run(["report", str(record), "-o", str(tmp_path / "other.html")]) == 0
    assert (tmp_path / "other.html").read_bytes() == page.read_bytes()


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ('{"schema": "roofline.prediction/9"}', "another version"),
        ('{"schema": "roofline.predicton/1"}', "Did you mean 'roofline.prediction/1'"),
        ('{"schema": {"a": 1}}', "is not known"),
        ("{}", "None is not known"),
        ('{"schema": "roofline.prediction/1"}', "'scenario' is None"),
        ("[1, 2]", "JSON object"),
        ('{"schema": "roofline.pred', "line 1 column"),
        ("", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("\udcff", "UTF-8"),
    ],
    ids=range(10),
)
def test_what_is_no_record_is_an_error_without_a_file(tmp_path: Path, capsys, text: str, named: str) -> None:
    record = tmp_path / "record.json"
    record.write_text(text, "utf-8", errors="surrogateescape")
    assert run(["report", str(record)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: ") and named in said and len(said) < 500
    assert list(tmp_path.iterdir()) == [record]


def test_a_missing_file_and_a_page_over_its_record_are_errors(tmp_path: Path, capsys) -> None:
    assert run(["report", str(tmp_path / "none.json")]) == 2
    assert "cannot read" in capsys.readouterr().err
    record = tmp_path / "r.html"
    record.write_text(json.dumps({"schema": "roofline.prediction/1"}))
    assert run(["report", str(record)]) == 2
    assert "itself" in capsys.readouterr().err
