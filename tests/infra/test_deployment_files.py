"""Files under `infra/` and `prefect.yaml`, refused here where Docker, Kubernetes, Helm or Prefect refuse them."""

import importlib.util
import ipaddress
import json
import os
import re
import runpy
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import yaml
from deployment_checks import (
    ROOT,
    containers,
    dockerfile_faults,
    documents,
    faults,
    kubernetes_faults,
    schema,
)

from infra.settings import Settings
from pipelines.deploy import deployments

INFRA = ROOT / "infra"
MANIFESTS = sorted((INFRA / "kubernetes").glob("*.yaml"))
PLAIN = [path for path in MANIFESTS if not path.name.endswith(".values.yaml") and path.name != "kustomization.yaml"]
SCRIPTS = [INFRA / "docker/entrypoint.sh", INFRA / "compose/make-secrets.sh", INFRA / "slurm/internvl.sbatch"]


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = documents(INFRA / "kubernetes" / name)[0]
    return found


@pytest.mark.parametrize("path", PLAIN, ids=lambda path: path.name)
def test_kubernetes_takes_every_manifest(path: Path) -> None:
    assert [fault for each in documents(path) for fault in kubernetes_faults(each)] == []


def test_a_field_that_kubernetes_does_not_know_is_found() -> None:
    service = manifest("reports.yaml")
    service["spec"]["prots"] = service["spec"].pop("ports")
    assert kubernetes_faults(service)
    cluster = manifest("raycluster.yaml")
    cluster["spec"]["workerGroupSpecs"][0]["minReplica"] = 1
    assert kubernetes_faults(cluster)
    cluster = manifest("raycluster.yaml")
    cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]["imagee"] = "x"
    assert kubernetes_faults(cluster)


@pytest.mark.parametrize("chart", ["server", "worker"])
def test_helm_takes_the_values(chart: str) -> None:
    values = documents(INFRA / f"kubernetes/prefect-{chart}.values.yaml")[0]
    rules = schema(f"prefect_{chart}_values")
    assert faults(rules, values) == []
    broken = deepcopy(values)
    broken[chart if chart == "worker" else "postgresql"] = {"config": 7, "enabled": "perhaps"}
    assert faults(rules, broken)


def test_the_job_of_a_flow_is_one_that_kubernetes_takes() -> None:
    template = json.loads((INFRA / "kubernetes/base-job-template.json").read_text())
    variables = template["variables"]["properties"]
    job = template["job_configuration"]["job_manifest"]
    container = job["spec"]["template"]["spec"]["containers"][0]
    # Prefect puts these in when a flow starts.
    assert {container["image"], container["args"], container["env"]} == {"{{ image }}", "{{ command }}", "{{ env }}"}
    assert set(variables) == {"image", "command", "env"}
    container |= {"image": variables["image"]["default"], "args": ["true"], "env": []}
    job["metadata"]["name"] = "flow"
    assert kubernetes_faults(job) == []


@pytest.mark.parametrize("name", ["compose.yaml", "gpu.yaml"])
def test_compose_takes_the_files(name: str) -> None:
    found = documents(INFRA / "compose" / name)[0]
    assert faults(schema("compose"), found) == []
    found["services"]["ray-node"]["imagee"] = "x"
    assert faults(schema("compose"), found)


def test_compose_names_only_what_it_defines() -> None:
    found = documents(INFRA / "compose/compose.yaml")[0]
    for name, service in found["services"].items():
        assert set(service.get("networks", ())) <= set(found["networks"]), name
        assert set(service.get("secrets", ())) <= set(found["secrets"]), name
        assert set(service.get("depends_on", ())) <= set(found["services"]), name
        for port in service.get("ports", ()):
            assert port.startswith("127.0.0.1:"), f"{name} opens {port} to the network"
        if "outside" in service.get("networks", ()):
            assert name == "ray-download", f"{name} has a way to the internet"
    assert found["networks"]["inside"]["internal"] is True


def test_who_asks_ray_or_prefect_is_given_their_secrets() -> None:
    services = documents(INFRA / "compose/compose.yaml")[0]["services"]
    for name in ("flows", "reports", "reaper"):
        assert services[name]["environment"]["RAY_AUTH_TOKEN_PATH"] == "/run/secrets/ray_token"
        assert "ray_token" in services[name]["secrets"], name
    assert "PREFECT_API_AUTH_STRING" in services["reaper"]["secrets"]
    assert services["reaper"]["command"] == ["internvl", "reap"]
    for file in ("reports.yaml", "reaper.yaml"):
        (deployment,) = (each for each in documents(INFRA / "kubernetes" / file) if each["kind"] == "Deployment")
        pod = deployment["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        env = {each["name"]: each for each in container["env"]}
        (mount,) = (each["mountPath"] for each in container["volumeMounts"] if each["name"] == "ray-token")
        assert env["RAY_AUTH_TOKEN_PATH"]["value"] == f"{mount}/auth_token"
        assert {"name": "ray-token", "secret": {"secretName": "internvl-ray"}} in pod["volumes"]
        assert ("PREFECT_API_AUTH_STRING" in env) == (file == "reaper.yaml")
        assert file in documents(INFRA / "kubernetes/kustomization.yaml")[0]["resources"]


def test_the_pods_of_flows_name_prefect_s_password_and_do_not_hold_it(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = documents(INFRA / "kubernetes/prefect-worker.values.yaml")[0]["worker"]
    for each in worker["extraEnvVars"]:
        monkeypatch.setenv(each["name"], each["value"])
    package = importlib.util.find_spec("prefect_kubernetes")
    assert package is not None and package.submodule_search_locations
    # Its settings alone: the package loads all of Kubernetes' client.
    settings = runpy.run_path(str(Path(package.submodule_search_locations[0]) / "settings.py"))
    told = settings["KubernetesWorkerSettings"]()
    secret = worker["selfHostedServerApiConfig"]["basicAuth"]["existingSecret"]
    assert (told.api_auth_string_secret_name, told.api_auth_string_secret_key) == (secret, "auth-string")


def test_all_processes_of_an_installation_are_told_its_name() -> None:
    services = documents(INFRA / "compose/compose.yaml")[0]["services"]
    for name in ("flows", "reaper", "reports", "ray-head", "ray-node", "ray-download"):
        assert services[name]["environment"]["INTERNVL_INSTALLATION"], name
    assert manifest("config.yaml")["data"]["INTERNVL_INSTALLATION"]
    docker = documents(INFRA / "ray/aws.yaml")[0]["docker"]
    for options in ("head_run_options", "worker_run_options"):
        assert any(each.startswith("--env INTERNVL_INSTALLATION=") for each in docker[options]), options


@pytest.mark.parametrize("name", ["Dockerfile", "Dockerfile.gpu"])
def test_the_dockerfiles_are_clean(name: str, tmp_path: Path) -> None:
    path = INFRA / "docker" / name
    assert dockerfile_faults(path) == []
    broken = tmp_path / "Dockerfile"
    broken.write_text(path.read_text() + "\nRUN cd /tmp && sudo true\nMAINTAINER nobody\n")
    assert dockerfile_faults(broken)


def test_the_images_hold_what_the_lock_says() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    ray = re.search(r"^ray==(\S+)", lock, re.M)
    prefect = re.search(r"^prefect==(\S+)", lock, re.M)
    cuda = re.search(r"^nvidia-cuda-runtime==(\d+\.\d+)", lock, re.M)
    assert ray and prefect and cuda
    assert manifest("raycluster.yaml")["spec"]["rayVersion"] == ray[1]
    values = documents(INFRA / "kubernetes/prefect-server.values.yaml")[0]
    assert values["global"]["prefect"]["image"]["prefectTag"].startswith(f"{prefect[1]}-")
    gpu = (INFRA / "docker/Dockerfile.gpu").read_text()
    assert f"nvidia/cuda:{cuda[1]}." in gpu
    extra = re.search(r"flash-attn==\S+?(?=\")", (ROOT / "pyproject.toml").read_text())
    assert extra and extra[0] in gpu


def test_every_variable_of_ours_is_one_that_something_reads() -> None:
    read = " ".join(
        path.read_text() for folder in ("infra", "pipelines", "stages") for path in ROOT.glob(f"{folder}/**/*.py")
    )
    known = set(re.findall(r"INTERNVL_[A-Z_]+", read)) | {
        f"INTERNVL_{name.upper()}" for name in Settings.model_fields
    }
    mine = {"INTERNVL_CODE", "INTERNVL_WORK_POOL"}  # read by prefect.yaml itself
    own = {"INTERNVL_SECRETS", "INTERNVL_IMAGE", "INTERNVL_GPU_IMAGE"}  # read by the entry point, and by compose
    for path in (*MANIFESTS, *INFRA.glob("compose/*.yaml"), *INFRA.glob("docker/*"), *INFRA.glob("ray/*"), *SCRIPTS):
        for name in re.findall(r"\bINTERNVL_[A-Z_]+", path.read_text()):
            assert name in known | mine | own, f"{path.name} sets {name}, which nothing reads"


def test_no_container_is_root_or_may_become_it() -> None:
    for path in PLAIN:
        for document in documents(path):
            for container in containers(document):
                context = container["securityContext"]
                assert context["allowPrivilegeEscalation"] is False, container["name"]
                assert context["capabilities"]["drop"] == ["ALL"], container["name"]


def test_only_downloads_get_out_and_to_no_private_address() -> None:
    policies = {
        each["metadata"]["name"]: each["spec"] for each in documents(INFRA / "kubernetes/network-policy.yaml")
    }
    assert policies["within"]["podSelector"] == {} and set(policies["within"]["policyTypes"]) == {"Ingress", "Egress"}
    assert policies["egress"]["podSelector"]["matchLabels"] == {"internvl/egress": "true"}
    (rule,) = policies["egress"]["egress"]
    assert {each["port"] for each in rule["ports"]} == {80, 443}
    refused = [ipaddress.ip_network(each) for each in rule["to"][0]["ipBlock"]["except"]]
    for private in (
        "10.1.2.3",
        "172.20.0.1",
        "192.168.1.1",
        "127.0.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "224.0.0.1",
    ):
        assert any(ipaddress.ip_address(private) in network for network in refused), private
    labelled = [
        group["groupName"]
        for group in manifest("raycluster.yaml")["spec"]["workerGroupSpecs"]
        if group["template"]["metadata"]["labels"].get("internvl/egress")
    ]
    offering = [
        group["groupName"]
        for group in manifest("raycluster.yaml")["spec"]["workerGroupSpecs"]
        if "egress" in group["rayStartParams"].get("resources", "")
    ]
    assert labelled == offering == ["download"]


def test_no_secret_stands_in_a_file() -> None:
    wanted = re.compile(
        r"(?i)(password|secret_access_key|auth_?string|token)\s*[:=]\s*[\"']?[A-Za-z0-9+/]{12,}[\"']?\s*$", re.M
    )
    for path in (*MANIFESTS, *INFRA.glob("compose/*"), *INFRA.glob("ray/*"), *SCRIPTS, ROOT / "prefect.yaml"):
        if path.is_file():
            assert not wanted.findall(path.read_text()), path.name
    assert wanted.findall("  password: abcdef0123456789\n")


def test_prefect_yaml_has_the_deployments_of_one_machine() -> None:
    found = yaml.safe_load((ROOT / "prefect.yaml").read_text())
    here = {each.name: each for each in deployments()}
    assert {each["name"] for each in found["deployments"]} == set(here)
    for each in found["deployments"]:
        path, _, name = each["entrypoint"].partition(":")
        flow = getattr(importlib.import_module(path.removesuffix(".py").replace("/", ".")), name)
        assert flow.name == here[each["name"]].flow_name
        assert each["description"] == here[each["name"]].description


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_the_scripts_are_whole(path: Path) -> None:
    shell = "bash" if "bash" in path.read_text().splitlines()[0] else "sh"
    assert subprocess.run([shell, "-n", str(path)], check=False).returncode == 0
    assert os.access(path, os.X_OK) or path.suffix == ".sbatch"


def test_secrets_are_made_once_and_reach_a_command(tmp_path: Path) -> None:
    (tmp_path / "make-secrets.sh").write_text((INFRA / "compose/make-secrets.sh").read_text())
    made = [subprocess.run(["sh", str(tmp_path / "make-secrets.sh")], capture_output=True, text=True, check=True)]
    first = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    made.append(subprocess.run(["sh", str(tmp_path / "make-secrets.sh")], capture_output=True, text=True, check=True))
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == first
    for value in first.values():
        assert len(value) >= 8 and value not in made[0].stdout + made[1].stdout
    wanted = documents(INFRA / "compose/compose.yaml")[0]["secrets"].values()
    assert {Path(each["file"]).name for each in wanted} == set(first)
    told = subprocess.run(
        ["sh", str(INFRA / "docker/entrypoint.sh"), "sh", "-c", "echo $AWS_SECRET_ACCESS_KEY-$ray_token"],
        env={"PATH": os.environ["PATH"], "INTERNVL_SECRETS": str(tmp_path / "secrets")},
        capture_output=True,
        text=True,
        check=True,
    )
    # A file in small letters is read from its path and never becomes a variable.
    assert told.stdout.strip() == first["AWS_SECRET_ACCESS_KEY"] + "-"
