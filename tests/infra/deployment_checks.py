"""Checks of deployment files by what would refuse them: published schemas, a linter, the settings that they name."""

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import yaml

ROOT = Path(__file__).resolve().parents[2]
SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = "1.31"


def schema(name: str) -> dict[str, Any]:
    """Return one of the recorded schemas."""
    found: dict[str, Any] = json.loads(gzip.decompress((SCHEMAS / f"{name}.json.gz").read_bytes()))
    return found


def documents(path: Path) -> list[Any]:
    """Return the YAML documents of a file."""
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def closed(part: Any) -> Any:
    """Return a schema that refuses fields which it does not name, as `kubectl` does and the API server does not."""
    if isinstance(part, list):
        return [closed(each) for each in part]
    if not isinstance(part, dict):
        return part
    found = {name: closed(value) for name, value in part.items()}
    keeps = found.get("x-kubernetes-preserve-unknown-fields")
    if found.get("type") == "object" and "properties" in found and not keeps:
        found.setdefault("additionalProperties", False)
    return found


def faults(rules: dict[str, Any], document: Any) -> list[str]:
    """Return what a document breaks of a schema, each with the path to it."""
    validator = jsonschema.Draft202012Validator(rules)
    return [f"{'.'.join(map(str, each.absolute_path))}: {each.message}" for each in validator.iter_errors(document)]


def kubernetes_faults(document: Any) -> list[str]:
    """Return what Kubernetes, or KubeRay, would refuse in a document."""
    if document["kind"] != "RayCluster":
        try:
            kubernetes_validate.validate(document, KUBERNETES, strict=True)
        except kubernetes_validate.ValidationError as error:
            return [str(error)]
        return []
    rules = closed(schema("raycluster_v1"))
    rules["properties"]["metadata"] = {"type": "object"}
    found = faults(rules, document)
    for group in (document["spec"]["headGroupSpec"], *document["spec"].get("workerGroupSpecs", ())):
        template = group.get("template", {})
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "pod"}, "spec": template.get("spec", {})}
        found += kubernetes_faults(pod)
    return found


def dockerfile_faults(path: Path) -> list[str]:
    """Return what hadolint says about a Dockerfile."""
    tool = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([tool, "--no-color", str(path)], capture_output=True, text=True, check=False)
    return done.stdout.splitlines()


def containers(document: Any) -> Iterator[dict[str, Any]]:
    """Yield every container that a document describes, wherever it stands."""
    if isinstance(document, dict):
        for name, value in document.items():
            if name in ("containers", "initContainers") and isinstance(value, list):
                yield from value
            else:
                yield from containers(value)
    elif isinstance(document, list):
        for value in document:
            yield from containers(value)
