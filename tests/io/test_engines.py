import pytest

from roofline.errors import RooflineError
from roofline.io.engines import PRESETS, engine_names, load_engine, load_engine_file
from roofline.serving.engine import ChunkedPrefill, PrefillFirst

TEXT = (PRESETS / "vllm.toml").read_text("utf-8")


def test_the_named_engines_are_there_and_know_their_schedule():
    assert engine_names() == ("sglang", "trtllm", "vllm")
    assert {name: type(load_engine(name).schedule) for name in engine_names()} == {
        "sglang": PrefillFirst,
        "trtllm": ChunkedPrefill,
        "vllm": ChunkedPrefill,
    }


@pytest.mark.parametrize("name", ["vllm", "sglang", "trtllm"])
def test_every_fact_of_a_preset_is_sourced(name):
    file = load_engine_file(name)
    facts = dict(file.facts())
    assert len(facts) == 20
    assert {fact.source for fact in facts.values()} <= set(file.sources)


def test_an_unknown_engine_is_told_its_nearest():
    with pytest.raises(
        RooflineError, match=r"'vlm' is not known. Did you mean 'vllm'\? Accepted: sglang, trtllm, vllm"
    ):
        load_engine("vlm")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('schema = "roofline.engine/1"', 'schema = "roofline.engine/2"', "schema"),
        ('order = "chunked_prefill"', 'order = "random"', "scheduling.order"),
        ('printed = "8192"', 'printed = "8193"', "8193"),
        ("[host]", "[host]\nextra = 1", "host.extra"),
        ("[sources]", '[sources]\nunused = "x"', "sources.unused: no fact cites it"),
        ("[scale]", "[scale", "not valid TOML"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path, old, new, told):
    path = tmp_path / "vllm.toml"
    path.write_text(TEXT.replace(old, new, 1))
    with pytest.raises(RooflineError) as caught:
        load_engine(path)
    assert told in str(caught.value)


def test_a_missing_file_is_told():
    with pytest.raises(RooflineError, match="cannot read"):
        load_engine("/nowhere/engine.toml")
