"""Each sentence of ``SECURITY.md`` has a test."""

import re
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")

TESTS: Mapping[str, str] = {
    "A `.danet` file is data":
        "test_all_but_training_runs_none_of_a_spec "
        "test_all_but_building_and_training_runs_no_layer_in_python",
    "A network may have layers in Python":
        "test_a_layer_in_python_is_printed_before_it_runs "
        "test_a_training_goes_on_with_the_layer_that_it_began_with",
    "A recipe may name functions":
        "test_what_a_recipe_runs_is_printed_before_it_runs "
        "runtime/training/test_own_losses.py::test_a_run_goes_on_with_the_file_that_it_began_with",
    "`build` and `train` print each such file":
        "test_what_a_recipe_runs_is_printed_before_it_runs "
        "test_a_layer_in_python_is_printed_before_it_runs",
    "`build --no-code` and `train --no-code` refuse":
        "test_no_code_refuses_a_recipe_that_runs_some test_no_code_refuses_a_layer_in_python",
    "All commands but these, and":
        "test_a_layer_in_python_that_only_a_directory_names_is_refused "
        "test_all_but_building_and_training_runs_no_layer_in_python",
    "`data --recipe` executes a step": "test_all_but_training_runs_none_of_a_spec",
    "Code is allowed as it is": "test_what_is_allowed_is_a_file_as_it_is",
    "`--data python:...` and":
        "test_code_that_the_user_typed_runs test_a_factory_that_the_user_typed_runs",
    "Code that is only named in a directory":
        "test_code_named_by_a_record_is_refused test_code_as_data_of_a_checkpoint_or_conversion "
        "test_evaluating_runs_no_loss_of_a_record",
    "A function that only": "test_a_function_that_only_a_record_names_is_refused",
    "A Python module in": "test_a_module_in_the_working_directory_is_not_imported",
    "`model.py` and exported programs": "test_reading_runs_no_model_py",
    "`train` records the commit":
        "test_nothing_of_a_repository_is_run "
        "test_a_repository_that_lacks_objects_is_not_completed "
        "test_touched_files_are_not_changed",
    "Images are decoded":
        "runtime/data/test_formats.py::test_no_image_starts_a_program "
        "runtime/data/test_formats.py::test_every_format_is_read_whatever_its_file_is_called",
    "An image whose header":
        "runtime/data/test_formats.py::test_what_is_decoded_is_whole_and_not_too_large",
    "Weights and checkpoints are": "test_weights_and_checkpoints_are_no_pickles",
    "Arrays are read without": "runtime/data/test_arrays.py::test_wrong_arrays_are_named",
    "A PyTorch file for": "runtime/test_weights.py::test_a_pickle_is_refused_and_not_run",
    "The Python version of CIFAR":
        "runtime/data/test_published.py::test_a_pickle_that_is_not_the_published_one_is_never_unpickled",
    "A NIR file": "danetc/importing/test_nir.py::test_a_file_that_reads_from_another_is_refused",
    "Files named in a directory's records":
        "test_a_file_of_a_directory_lies_in_it test_links_out_of_a_run_are_refused "
        "test_links_that_leave_a_checkpoint_are_refused test_records_name_nothing_outside",
    "A digest detects damage": "test_a_digest_finds_damage_and_not_forgery",
    "Text from files":
        "danetc/test_visible.py::test_no_command_lets_a_name_through "
        "danetc/test_visible.py::test_nothing_prints_by_another_way",
    "A page of `report`": "test_a_report_shows_texts_as_texts",
    "In its own directories":
        "test_training_replaces_links_and_follows_none test_training_writes_to_no_linked_folder "
        "test_a_grid_and_a_search_follow_no_links test_files_of_our_own_replace_links",
    "A link that you specify":
        "danetc/test_build.py::test_an_older_directory_is_replaced_through_a_link",
    "The cache of compiled kernels":
        "runtime/test_kernel_cache.py::test_it_is_made_for_the_user_alone "
        "runtime/test_kernel_cache.py::test_what_others_could_have_written_is_not_read "
        "runtime/test_kernel_cache.py::test_that_of_another_user_is_not_read",
    "Environment variables and PATH": "test_programs_are_those_of_the_path",
    "The cost of `check`":
        "compiler/test_bounds.py::test_a_check_stays_within_its_bounds "
        "compiler/test_bounds.py::test_a_check_that_comes_to_its_bound_names_it",
    "The cost of training": "test_a_training_may_ask_for_anything",
}  # fmt: skip
"""The beginning of each sentence, and its tests: those without a file are in ``danetc/test_trust.py``."""


def sentences() -> list[str]:
    """The claims of the page, which are the items of its lists."""
    items = re.findall(r"^- (.+(?:\n  .+)*)", PAGE, re.MULTILINE)
    return [re.sub(r"\s+", " ", item) for item in items]


def test_behind_each_sentence_stands_a_test() -> None:
    found = sentences()
    for sentence in found:
        assert sum(map(sentence.startswith, TESTS)) == 1, sentence
        assert not re.search(r"[.:] [A-Z]", sentence), f"one sentence an item: {sentence}"
    for beginning in TESTS:
        assert any(each.startswith(beginning) for each in found), beginning


def test_no_claim_stands_elsewhere() -> None:
    """Besides its lists, the page has only a first paragraph and one on reporting."""
    paragraphs = re.split(r"\n\n+", PAGE.strip())
    rest = [each for each in paragraphs if not each.startswith(("#", "- "))]
    assert len(rest) == 2
    assert rest[0].startswith("Specs, runs, weights")
    assert rest[1].startswith("Report a vulnerability")


def test_its_tests_are_there() -> None:
    assert all(TESTS.values())
    for each in {each for tests in TESTS.values() for each in tests.split()}:
        file, _, name = each.rpartition("::")
        text = (ROOT / "tests" / (file or "danetc/test_trust.py")).read_text(encoding="utf-8")
        assert f"\ndef {name}(" in text, f"{file} has no {name}"


def test_others_lead_to_it() -> None:
    for page in ("README.md", "docs/training.md", "docs/guides/data.md", "CONTRIBUTING.md"):
        assert "SECURITY.md" in (ROOT / page).read_text(encoding="utf-8"), page
