"""Write every file of this repository that is made from another. `make generate` calls it, `make check` with --check.

```
catalyst.model    → deploy/k8s/crds, deploy/k8s/access, docs/reference/resources.md
catalyst.events   → libs/events/schemas, docs/reference/asyncapi.json, docs/reference/events.md
catalyst.cli      → docs/reference/cli.md
```

The same sources give the same bytes. Nothing here needs the network.
"""

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from catalyst.cli import reference
from catalyst.events import asyncapi, schemas
from catalyst.events.catalogue import CATALOGUE
from catalyst.events.compatibility import incompatibilities
from catalyst.model.access import cluster_roles
from catalyst.model.crd import crds
from catalyst.model.fields import Json
from catalyst.model.manifest import Manifest
from catalyst.model.reference import field_table

ROOT = Path(__file__).resolve().parent.parent
COMMAND = "make generate"
# Folders of generated files only: what is no longer made is removed. A schema of an event stays: readers may need it.
OWNED = ("deploy/k8s/crds", "deploy/k8s/access")

SCHEMAS = "libs/events/schemas"

Files = Mapping[str, str]
"""Path from the repository's root → content."""


def main(arguments: list[str] | None = None) -> int:
    """0: written, or current.

    1: with --check, something is out of date, each file named; or an event's schema would break its readers.
    """
    parser = argparse.ArgumentParser(description="Write every file that is made from another.")
    parser.add_argument("--check", action="store_true", help="write nothing; fail naming each file that is out of date")
    parser.add_argument("--root", type=Path, default=ROOT, help="the repository to write to or check")
    options = parser.parse_args(arguments)
    wanted = files()
    changed, stale = outdated(options.root, wanted), left_over(options.root, wanted)
    broken = incompatible(options.root)
    for sentence in broken:
        print(f"{sentence}: readers of stored events would break; make a new version of the type", file=sys.stderr)
    if broken:
        return 1
    if options.check:
        for path in (*changed, *stale):
            print(f"{path} is out of date: run `{COMMAND}` and commit the result", file=sys.stderr)
        return 1 if changed or stale else 0
    for path in changed:
        target = options.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(wanted[path], encoding="utf-8")
        print(f"wrote {path}")
    for path in stale:
        (options.root / path).unlink()
        print(f"removed {path}")
    return 0


def files() -> Files:
    """Everything that is generated."""
    return {
        **_custom_resources(),
        **_access(),
        **_event_schemas(),
        "docs/reference/asyncapi.json": _json(asyncapi.document()),
        "docs/reference/resources.md": _resource_reference(),
        "docs/reference/events.md": _event_reference(),
        "docs/reference/cli.md": _cli_reference(),
    }


def incompatible(root: Path) -> list[str]:
    """What the models would take from the readers of the committed event schemas."""
    committed = {path.name: json.loads(path.read_text()) for path in (root / SCHEMAS).glob("*.json")}
    return incompatibilities(committed, schemas.json_schemas())


def outdated(root: Path, wanted: Files) -> list[str]:
    """The paths whose file is missing or differs."""
    return sorted(path for path, content in wanted.items() if _content(root / path) != content)


def left_over(root: Path, wanted: Files) -> list[str]:
    """Files in the owned folders that nothing generates any more."""
    present = (path for folder in OWNED for path in (root / folder).glob("*") if path.is_file())
    return sorted(path for path in (found.relative_to(root).as_posix() for found in present) if path not in wanted)


def _custom_resources() -> Files:
    manifests = {f"{crd['spec']['names']['plural']}.yaml": crd for crd in crds()}
    return _folder("deploy/k8s/crds", {name: [crd] for name, crd in manifests.items()})


def _access() -> Files:
    return _folder("deploy/k8s/access", {"clusterroles.yaml": cluster_roles()})


def _event_schemas() -> Files:
    return {f"libs/events/schemas/{name}": _json(schema) for name, schema in _named(schemas.json_schemas()).items()}


def _named(found: Mapping[str, Json]) -> Mapping[str, Json]:
    return {name if name.endswith(".json") else f"{name}.json": schema for name, schema in found.items()}


def _folder(folder: str, contents: Mapping[str, list[Manifest]]) -> Files:
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": sorted(contents),
    }
    everything = {**contents, "kustomization.yaml": [kustomization]}
    return {f"{folder}/{name}": _yaml(manifests) for name, manifests in everything.items()}


class _Dumper(yaml.SafeDumper):
    """Lists indented under their key, as people write them; no anchors."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _yaml(manifests: list[Manifest]) -> str:
    text = yaml.dump_all(manifests, Dumper=_Dumper, sort_keys=False, width=120, allow_unicode=True)
    return f"# Generated by `{COMMAND}` from libs/model. Do not edit.\n{text}"


def _json(document: Json) -> str:
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def _page(title: str, intro: str, sections: list[str]) -> str:
    head = f"<!-- Generated by `{COMMAND}`. Do not edit. -->\n\n# {title}\n\n{intro}\n"
    return "\n".join([head, *sections])


def _resource_reference() -> str:
    intro = (
        "`catalyst.dev/v1alpha1`, generated from the models in `libs/model`. A Project lives in its team's namespace,\n"
        "an Environment in `<team>--<project>`. `spec` is what somebody wishes, `status` what env-controller saw.\n"
        "The rules are checked by the API server, which names the field it refuses."
    )
    return _page("Resources", intro, [_resource_section(crd) for crd in crds()])


def _resource_section(crd: Manifest) -> str:
    names = crd["spec"]["names"]
    schema = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    short = ", ".join(f"`{name}`" for name in (names["plural"], *names["shortNames"], *names["categories"]))
    rules = "".join(f"- `{path}`: {message}\n" for path, message in _rules(schema, ""))
    fields = {"properties": {part: schema["properties"][part] for part in ("spec", "status")}, "required": ["spec"]}
    return (
        f"## {names['kind']}\n\n{schema['description']} `kubectl get` knows it as {short}.\n\n"
        f"{field_table(fields)}\nRules:\n\n{rules}"
    )


def _rules(node: Json, path: str) -> list[tuple[str, str]]:
    rules = [(path or "the resource", rule["message"]) for rule in node.get("x-kubernetes-validations", ())]
    for name, child in node.get("properties", {}).items():
        rules += _rules(child, f"{path}.{name}" if path else name)
    for key, mark in (("items", "[]"), ("additionalProperties", "{}")):
        if key in node:
            rules += _rules(node[key], f"{path}{mark}")
    return rules


def _event_reference() -> str:
    intro = (
        "CloudEvents 1.0 on NATS JetStream, generated from the catalogue in `libs/events`. The JSON Schemas are in\n"
        "`libs/events/schemas`, the channels in [asyncapi.json](asyncapi.json). Readers ignore unknown fields;\n"
        "writers never remove one."
    )
    sections = []
    for type_, data in CATALOGUE.items():
        description = " ".join((data.__doc__ or "").split())
        writers = ", ".join(data.WRITERS)
        table = field_table(data.model_json_schema(by_alias=True, mode="serialization"))
        sections.append(f"## {data.short_type()}\n\n{description}\n\nType `{type_}`, written by {writers}.\n\n{table}")
    return _page("Events", intro, sections)


def _cli_reference() -> str:
    intro = (
        "`catalyst`, for people on call, generated from the command line itself. What it is for, contexts and\n"
        "examples: [cli/README.md](../../cli/README.md)."
    )
    return _page("Command line", intro, reference.sections())


def _content(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.is_file() else None


if __name__ == "__main__":
    sys.exit(main())
