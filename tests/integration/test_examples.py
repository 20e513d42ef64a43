"""The examples' Projects are valid: by the model, and by a real API server with its CEL rules. Dry runs."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from catalyst.local.installation import Installation
from catalyst.model.project import Project

from .cluster import Tenancy, path

FOUND = sorted((Path(__file__).parents[2] / "examples").glob("*/project.yaml"))


@pytest.fixture(scope="module")
def tenancy(installation: Installation) -> Iterator[Tenancy]:
    tenancy = Tenancy(installation.control_plane).create()
    try:
        yield tenancy
    finally:
        tenancy.close()


@pytest.mark.parametrize("file", FOUND, ids=lambda file: file.parent.name)
def test_a_project_is_valid_and_what_it_names_is_there(tenancy: Tenancy, file: Path) -> None:
    manifest = yaml.safe_load(file.read_text())
    project = Project.parse(manifest)
    for component in project.spec.components:
        if component.build:
            assert (file.parent / component.build.dockerfile).is_file()
            assert (file.parent / component.build.context).is_dir()
    manifest["metadata"]["namespace"] = "globex"
    answer = tenancy.admin.request("POST", path("catalyst.dev", "globex", "projects"), manifest)
    assert answer.status == 201, answer.message
    wrong = copy.deepcopy(manifest)
    wrong["spec"]["components"] = [{"name": "web"}]
    refused = tenancy.admin.request("POST", path("catalyst.dev", "globex", "projects"), wrong)
    assert refused.status == 422
    assert "exactly one of build and image" in refused.message
