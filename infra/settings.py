"""Where this installation keeps its state and where its services listen.

One machine and a cluster differ in four values only: the Ray address, the Prefect API
address, the storage root, the Prefect database. All come from the environment, so that a
flow process, a Ray job and a hook of one installation always agree.
"""

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Settings(BaseModel):
    """Values that say where things run; none of them can change a result."""

    model_config = ConfigDict(frozen=True)

    home: Path = Field(description="State folder: logs, tokens, databases, the default store.")
    store_root: str = Field(description="Where artifacts live: a folder or s3://bucket/prefix.")
    host: str = Field(default="127.0.0.1", description="Address that all our servers listen on.")
    prefect_port: int = Field(default=14200, ge=1, le=65535)
    ray_dashboard_port: int = Field(default=18265, ge=1, le=65535)
    ray_port: int = Field(default=16379, ge=1, le=65535)
    report_port: int = Field(default=18090, ge=1, le=65535)
    web_port: int = Field(default=18080, ge=1, le=65535, description="The tiny recipe's loopback web.")
    drift_patience_seconds: float = Field(default=1800, ge=0, description="How long a download waits in an outage.")
    orphan_grace_seconds: float = Field(
        default=1800, ge=0, description="How long a job goes on whose flow run failed, crashed or is gone."
    )
    egress_resource: str = Field(
        default="",
        pattern=r"^[a-z0-9_]*$",
        description="Resource of the Ray cluster that only machines with a way to the outside offer; downloads run "
        "on those alone. Empty where all have one.",
    )
    installation: str = Field(
        default="",
        pattern=r"^[A-Za-z0-9_.-]{0,64}$",
        description="Name of this installation among all that use its Ray cluster or its store; needed where its "
        "processes share no state folder. Empty for a random one, kept there.",
    )
    placement: str = Field(
        default="",
        description="YAML of where and how wide stages run: a file, or s3://bucket/key where processes share no "
        "folder. placement.yaml in `home` where left out.",
    )
    contact: str = Field(default="", max_length=200, description="Whom those who run web servers can reach.")

    @field_validator("contact")
    @classmethod
    def _one_line(cls, value: str) -> str:
        if not (value.isascii() and value.isprintable()):
            raise ValueError("INTERNVL_CONTACT goes into a header: give printable ASCII on one line")
        return value

    @field_validator("placement")
    @classmethod
    def _from_anywhere(cls, value: str) -> str:
        return str(Path(value).expanduser().resolve()) if value and "://" not in value else value

    @property
    def placement_file(self) -> str:
        """File that says where and how wide stages run here; it need not be there unless it was named."""
        return self.placement or str(self.home / "placement.yaml")

    @property
    def own_prefect_api_url(self) -> str:
        """Address of the Prefect API that `internvl up` starts."""
        return f"http://{self.host}:{self.prefect_port}/api"

    @property
    def prefect_api_url(self) -> str:
        """Address of the Prefect API; an outside server wins over our own."""
        return os.environ.get("PREFECT_API_URL") or self.own_prefect_api_url

    @property
    def prefect_ui_url(self) -> str:
        """Address that a person opens."""
        return self.prefect_api_url.removesuffix("/api")

    @property
    def ray_jobs_address(self) -> str:
        """Address of Ray's Jobs API; an outside cluster wins over our own."""
        return os.environ.get("INTERNVL_RAY_JOBS") or f"http://{self.host}:{self.ray_dashboard_port}"

    @property
    def report_url(self) -> str:
        """Address of the read-only report server."""
        return os.environ.get("INTERNVL_REPORT_URL") or f"http://{self.host}:{self.report_port}"

    @property
    def web_url(self) -> str:
        """Address of the tiny recipe's web; one that runs elsewhere wins over our own."""
        return os.environ.get("INTERNVL_WEB_URL") or f"http://{self.host}:{self.web_port}"

    @property
    def ray_token_path(self) -> Path:
        """File with the token that Ray's services ask for, mode 600."""
        return self.home / "ray" / "token"

    @property
    def prefect_password_path(self) -> Path:
        """File with the `name:password` that our own Prefect asks for, mode 600."""
        return self.home / "prefect" / "password"

    @property
    def report_token_path(self) -> Path:
        """File with the token that our report server asks for, mode 600."""
        return self.home / "reports" / "token"


def settings() -> Settings:
    """Return the settings of this process, read from `INTERNVL_*` in the environment."""
    home = Path(os.environ.get("INTERNVL_HOME", ".internvl")).resolve()
    given = {
        name: value
        for name in Settings.model_fields
        if name.endswith(("_port", "_seconds", "_resource", "contact", "installation", "placement"))
        and (value := os.environ.get(f"INTERNVL_{name.upper()}"))
    }
    return Settings.model_validate(
        {"home": home, "store_root": os.environ.get("INTERNVL_STORE", str(home / "store")), **given}
    )


def quiet_environment(here: Settings) -> dict[str, str]:
    """Return the variables that every child process needs: own services, no telemetry, no home defaults.

    The Prefect server refuses pages of other sites that are open in the same browser: they get neither
    its answers (CORS) nor a token to change anything (CSRF). A cluster of your own, named by
    `INTERNVL_RAY_JOBS`, keeps its addresses and the Ray token that your environment names.
    """
    own_ray = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(here.ray_token_path),
        # Without it Ray takes the machine's outer address for 127.0.0.1 and listens on all interfaces.
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    }
    return {
        "INTERNVL_HOME": str(here.home),
        "INTERNVL_STORE": here.store_root,
        "INTERNVL_PREFECT_PORT": str(here.prefect_port),
        "INTERNVL_RAY_DASHBOARD_PORT": str(here.ray_dashboard_port),
        "INTERNVL_RAY_PORT": str(here.ray_port),
        "INTERNVL_REPORT_PORT": str(here.report_port),
        "INTERNVL_WEB_PORT": str(here.web_port),
        "INTERNVL_DRIFT_PATIENCE_SECONDS": str(here.drift_patience_seconds),
        "INTERNVL_ORPHAN_GRACE_SECONDS": str(here.orphan_grace_seconds),
        "INTERNVL_CONTACT": here.contact,
        "INTERNVL_EGRESS_RESOURCE": here.egress_resource,
        "INTERNVL_INSTALLATION": here.installation,
        "INTERNVL_PLACEMENT": here.placement,
        "PREFECT_HOME": str(here.home / "prefect"),
        "PREFECT_API_URL": here.prefect_api_url,
        "PREFECT_SERVER_EPHEMERAL_ENABLED": "false",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": f"http://{here.host}:{here.prefect_port}",
        "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
        "PREFECT_CLI_PROMPT": "false",
        "PREFECT_CLIENT_MAX_RETRIES": "7",  # four minutes: a server may be started again while a flow runs
        "DO_NOT_TRACK": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        **({} if os.environ.get("INTERNVL_RAY_JOBS") else own_ray),
        "RAY_raylet_start_wait_time_s": "180",
        "NO_ALBUMENTATIONS_UPDATE": "1",
        "HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE", "1"),  # 0 lets a model be fetched by its name
        "WANDB_MODE": "disabled",
        "TOKENIZERS_PARALLELISM": "false",
    }
