"""Reading a resource_spec: what is sure is read exactly, whatever its form, and nothing else is read."""

from __future__ import annotations

import re
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from exporter.counting.resources import Resources, is_unreadable, parse_spec

READ = {
    # As the API writes them
    "2Core_4GiB": Resources(2_000, 0, 4_000),
    "P100_1Gpu_2.1Core_4.1GiB": Resources(2_100, 1_000, 4_100),
    # In another form
    "2Core4GiB": Resources(2_000, 0, 4_000),
    "32Core_256GiB_8GPU": Resources(32_000, 8_000, 256_000),
    "2core 4gib": Resources(2_000, 0, 4_000),
    "2 Cores, 4 GiB": Resources(2_000, 0, 4_000),
    "2_Core_4_GiB": Resources(2_000, 0, 4_000),
    "P100_1_Gpu_2_Core_4_GiB": Resources(2_000, 1_000, 4_000),
    "P100,1Gpu,2Core,4GiB": Resources(2_000, 1_000, 4_000),
    "__P100__1Gpu2.1Core__4.1GiB_": Resources(2_100, 1_000, 4_100),
    # Models
    "Ascend910_8Gpu_192Core_720GiB": Resources(192_000, 8_000, 720_000),
    "Ascend-910_8Gpu_192Core_720GiB": Resources(192_000, 8_000, 720_000),
    "Ascend-910B_8Gpu_192Core_720GiB": Resources(192_000, 8_000, 720_000),
    "Ascend-D910B_8Gpu_192Core_720GiB": Resources(192_000, 8_000, 720_000),
    "A800-80G-SXM_8Gpu_96Core_960GiB": Resources(96_000, 8_000, 960_000),
    "Tesla V100 1Gpu 8Core 64GiB": Resources(8_000, 1_000, 64_000),
    "昇腾910_8Gpu_192Core_720GiB": Resources(192_000, 8_000, 720_000),
    "Ascend-snt9b_8Gpu_192Core_720GiB": Resources(192_000, 8_000, 720_000),
    "Vnt1_1Gpu_8Core_64GiB": Resources(8_000, 1_000, 64_000),
    "ascend910b3_8gpu_192core_720gib": Resources(192_000, 8_000, 720_000),
    "NVIDIA-A100-SXM4-80G_8Gpu_96Core_960GiB": Resources(96_000, 8_000, 960_000),
    "p100_1gpu_2.1core_4.1gib": Resources(2_100, 1_000, 4_100),
    "Ascend_8Gpu_192Core_720GiB": Resources(192_000, 8_000, 720_000),
    "Kunlun2_8Gpu": Resources(0, 8_000, 0),
    "MI300X_8Gpu": Resources(0, 8_000, 0),
    "2Core_4GiB_P100_1Gpu": Resources(2_000, 1_000, 4_000),
    "2Core_P100_1Gpu": Resources(2_000, 1_000, 0),
    # Parts
    "8Gpu": Resources(0, 8_000, 0),
    "0Core_0GiB": Resources(),
    "1000000Core_1000000.0GiB": Resources(1_000_000_000, 0, 1_000_000_000),
    # Rounded half to even
    "0.0005Core_0.0015GiB": Resources(0, 0, 2),
    "1.123456789Core": Resources(1_123),
}
# What each text might mean else is beside it.
NOT_READ = (
    "",
    "P100",
    "2Core_3Core",
    "2Core_4MiB",
    "1Core_4MiB",
    "2Core_4GB",
    "2Corex_4GiB",
    "V1001Gpu",
    "2Core_4",
    "2Core_4G",
    "P100-4G_1Gpu_2Core",
    "V100-32GiB_1Gpu_8Core",  # the memory of the GPU
    "V100_32GiB_1Gpu_8Core",
    "V100.32G_1Gpu_8Core",
    "A100-80G_1Gpu",
    "disk_100GiB_2Core",
    "Disk100_1Gpu_2Core",
    "P100-2c-4g",
    "2vCPU_4GiB",
    "2CPU_4GiB",
    "8Npu_2Core_4GiB",
    "CPU2_1Gpu",
    "2Core_Memory4",
    "2_4GiB",
    "P100_1_2.1Core_4.1GiB",
    "P100-2_2Core_4GiB",  # two of them
    "P100x2_2Core_4GiB",
    "2x4Core_4GiB",
    "2Core_4GiB_x2",
    "2Core_4GiB x 2",
    "2Core_4GiB (x3)",
    "P100(x3)_1Gpu_2Core",
    "replicas3_8Gpu",
    "Replicas3_8Gpu",
    "nodes-2_8Gpu",
    "Nodes-2_8Gpu",
    "pods-3_2Core_4GiB",
    "Pod2_8Gpu",
    "节点3_8Gpu",
    "V100-nodes2_8Gpu",
    "Half V100 1Gpu",
    "half_2Core",
    "Half_1Gpu_2Core",
    "no_2Core",
    "no_8Gpu",
    "A100+V100_1Gpu",
    "P100_2Core_1Gpu",  # a model stands directly before its GPUs
    "P100_1Gpu_V100_2Core",
    "P100_4GiB_1Gpu",
    "1Gpu_P100_2Core",
    "RTX 3090 Gpu 2Core 4GiB",  # one RTX 3090
    "RTX_3090_Gpu_2Core_4GiB",
    "Core_2_GiB_4",
    "1,5Core_4GiB",  # one and a half
    "1,000Core_4GiB",
    "G-1 000Core",
    "G-1 000Gpu",
    "02Core_4GiB",
    "Ascend-1,5Gpu",
    "1/2Gpu_2Core_4GiB",
    "-2Core_4GiB",
    "2Core_-4GiB",
    "2Core_4GiB_-1Gpu",
    "1e3Core_4GiB",
    "1.2.3Core_4GiB",
    ".5Core_4GiB",
    "5.Core_4GiB",
    "1000000.001Core",
    "1000001Core",
    "0000000001Core",
    "1.0000000001Core",
    "2Core\n4GiB",
    "2Core_4GiB\n",
    "2Core_4Gi\N{LATIN CAPITAL LETTER B WITH DOT ABOVE}",
    "２Core_4GiB",  # noqa: RUF001 - a wide digit is intended
    "2Core_４GiB",  # noqa: RUF001 - as above
    "2\N{CYRILLIC CAPITAL LETTER ES}ore_4GiB",
    "2Core\N{LATIN SMALL LETTER LONG S}_4GiB",
    "1Core_" + "4" * 100_000 + "GiB",
    # A label is cut at 200 characters: this one may have had more memory.
    "M" * 189 + "_1Gpu_2Core",
)


@pytest.mark.parametrize("spec", READ)
def test_a_spec_is_read_in_many_forms(spec: str) -> None:
    assert parse_spec(spec) == READ[spec]
    assert not is_unreadable(spec)


@pytest.mark.parametrize("spec", NOT_READ, ids=lambda spec: spec[:30])
def test_what_may_mean_something_else_is_not_read(spec: str) -> None:
    assert parse_spec(spec) is None
    assert is_unreadable(spec) == (spec != "")


@st.composite
def specs(draw: st.DrawFn) -> tuple[str, dict[str, int]]:
    """Write quantities in any form and order, with a model before the GPUs; give what they say too."""
    units = draw(st.lists(st.sampled_from(("core", "gpu", "gib")), min_size=1, unique=True))
    said, pieces = {}, []
    for unit in units:
        thousandths = said[unit] = draw(st.integers(0, 1_000_000_000))
        number = draw(st.sampled_from((f"{Decimal(thousandths) / 1000:f}", f"{thousandths / 1000:.3f}")))
        written = "".join(draw(st.sampled_from((c, c.upper()))) for c in unit)
        pieces.append(number + draw(st.sampled_from(("", " "))) + written + draw(st.sampled_from(("", "s"))))
    models = ("", "P100", "v100", "Ascend910B", "Ascend-D910B", "RTX4090", "Tesla T4")
    model = draw(st.sampled_from(models)) if "gpu" in units else ""
    if model:
        pieces.insert(units.index("gpu"), model)
    spec = pieces[0]
    for before, piece in pairwise(pieces):
        between = ["_", "-", "+", ",", ";", "/", " ", "__", ", ", " + ", " / ", "_ _"]
        # Between two quantities there may be nothing.
        spec += draw(st.sampled_from(between if model in (before, piece) else ["", *between])) + piece
    return draw(st.sampled_from(("", "_", " "))) + spec + draw(st.sampled_from(("", "_", " "))), said


@given(specs())
def test_any_mix_of_order_case_separators_and_models_is_read_exactly(
    written: tuple[str, dict[str, int]],
) -> None:
    spec, said = written
    assert parse_spec(spec) == Resources(said.get("core", 0), said.get("gpu", 0), said.get("gib", 0))


# Each may change what the quantities mean.
WORDS = ("half", "no", "No", "disk", "nodes-2", "replicas3", "x3", "(x3)", "80G", "000", "?")


@given(specs(), st.sampled_from(WORDS), st.data())
def test_no_spec_is_read_with_a_word_that_is_no_model(
    written: tuple[str, dict[str, int]], word: str, data: st.DataObject
) -> None:
    spec, _ = written
    ends = [found.end() for found in re.finditer("(?:core|gpu|gib)s?", spec, re.IGNORECASE)]
    at = data.draw(st.sampled_from([0, *ends]))
    before, after = (data.draw(st.sampled_from(("_", "-", " ", ", "))) for _ in range(2))
    assert parse_spec(spec[:at] + before * bool(at) + word + after + spec[at:]) is None


SHARDS = st.sampled_from(
    (
        "1",
        "2.5",
        "0",
        ".",
        "Core",
        "gpu",
        "GiB",
        "MiB",
        "GB",
        "s",
        "x",
        "P100",
        "G",
        "_",
        "-",
        "+",
        ",",
        "/",
        " ",
    )
)


@given(st.one_of(st.text(), st.lists(SHARDS).map("".join)))
@example("\ud800Core")
def test_junk_is_read_or_not_and_never_raises(spec: str) -> None:
    read = parse_spec(spec)
    assert read is None or all(
        type(amount) is int and 0 <= amount <= 1_000_000_000
        for amount in (read.cores, read.gpus, read.memory)
    )


@given(specs(), st.data())
def test_no_quantity_is_dropped_where_its_unit_is_damaged(
    written: tuple[str, dict[str, int]], data: st.DataObject
) -> None:
    spec, _ = written
    units = re.finditer("core|gpu|gib", spec, re.IGNORECASE)
    at = data.draw(st.sampled_from([at for unit in units for at in range(*unit.span())]))
    assert parse_spec(spec[:at] + data.draw(st.sampled_from("?qwz#._-, 1")) + spec[at + 1 :]) is None


def test_a_spec_that_may_have_been_cut_is_not_read() -> None:
    """Labels are cut at 200 characters, and the API's own specs are far shorter than the limit."""
    assert parse_spec("2Core".ljust(150, "_")) == Resources(cores=2_000)
    assert parse_spec("2Core".ljust(151, "_")) is None
