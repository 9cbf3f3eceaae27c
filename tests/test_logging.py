from dataclasses import asdict, replace

from wikigpt.training.events import Sample
from wikigpt.training.logging import RunLogger, read_metrics


def test_half_a_line_at_the_end_is_passed_over_and_no_other(tmp_path):
    """A model may write whatever Unicode takes for the end of a line."""
    first = Sample(step=4, prompt="La ville", text="de\u2028Paris\u2029et\x85Nîmes\n")
    logged = [first, replace(first, step=8)]
    for sample in logged:
        logger = RunLogger(tmp_path, sample.step - 4, {})
        logger.log(sample)
        logger.close()
        with (tmp_path / "metrics.jsonl").open("a", encoding="utf-8") as file:
            file.write('{"kind": "step", "st')
    assert read_metrics(tmp_path) == [{"kind": "sample"} | asdict(sample) for sample in logged]
