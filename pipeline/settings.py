"""Numbers and addresses: one typed class, read once at start from MASKWATCH_*, handed on as an argument."""

from __future__ import annotations

import math
import os
from contextlib import suppress
from ipaddress import ip_network
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """`MASKWATCH_KAFKA=host:9092 maskwatch worker` sets `kafka`, and so on for each name below."""

    model_config = SettingsConfigDict(env_prefix="MASKWATCH_", frozen=True, extra="ignore")

    # where things are
    data: Path = Field(default=Path("data"), description="folder for the broker's log, weights, demo, pictures")
    kafka: str = Field(default="", description="host:port,… of a Kafka cluster; empty = the embedded broker")
    kafka_port: int = Field(default=9092, description="loopback port of the embedded broker")
    kafka_security: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_ca: Path | None = Field(default=None, description="PEM file of the authority that signed the brokers")
    kafka_cert: Path | None = Field(default=None, description="PEM file of the client certificate (mutual TLS)")
    kafka_key: Path | None = Field(default=None, description="PEM file of the client certificate's key")
    kafka_sasl: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_user: str = Field(default="", description="name for SASL")
    kafka_password: SecretStr = Field(default=SecretStr(""), description="password for SASL")
    database: SecretStr = Field(default=SecretStr(""), description="postgresql://user:password@host/name; empty = the "
                                "embedded server")
    postgres_port: int = Field(default=9432, description="loopback port of the embedded database")
    vectors: str = Field(default="", description="http(s)://host:port of a Milvus; empty = the embedded Milvus Lite")
    vectors_token: SecretStr = Field(default=SecretStr(""), description="user:password or token of that Milvus")
    vectors_port: int = Field(default=9530, description="loopback port of the embedded Milvus Lite")
    pictures: str = Field(default="", description="s3://bucket/path for kept pictures; empty = a folder under `data`")
    topic_prefix: str = Field(default="", description="before every topic and group name: several systems, one cluster")
    replication: int = Field(default=1, ge=1, description="copies of each partition; 3 on a cluster")
    host: str = Field(default="127.0.0.1", description="address the API listens on")
    port: int = Field(default=8000, description="port the API listens on")
    dashboard: Path | None = Field(default=None, description="folder of the built dashboard; none = our own")
    tiles: str = Field(default="", description="https://…/{z}/{x}/{y}.png of a tile server; empty = plans only")
    tiles_attribution: str = Field(default="", description="whom those maps are by, as their licence wants it said")
    log: Literal["debug", "info", "warning", "error"] = "info"
    log_format: Literal["console", "json"] = "console"

    # alerts
    public_url: str = Field(default="", description="https://host at which browsers reach the dashboard: for links in "
                            "messages, and the name that a proxy may hand on")
    alert_networks: str = Field(default="", description="10.0.0.0/8,…: networks that messages may go to besides public "
                                "addresses")

    # who may come in
    session_idle: float = Field(default=12.0, description="hours after which a login that is not used ends")
    session_longest: float = Field(default=168.0, description="hours after which every login ends")
    admin_password: SecretStr = Field(default=SecretStr(""), description="of the first user, admin; empty = random")
    secure_cookies: bool = Field(default=False, description="cookies over TLS only; set it behind a TLS proxy")
    trusted_proxies: str = Field(default="", description="127.0.0.1,10.0.0.0/8,…: proxies whose X-Forwarded-For and "
                                 "-Proto are believed; empty = none, and every address is the proxy's")

    oidc_issuer: str = Field(default="", description="https://… of an OpenID provider; empty = no single sign-on")
    oidc_client: str = Field(default="", description="our client id there")
    oidc_secret: SecretStr = Field(default=SecretStr(""), description="and the client's secret")
    oidc_name: str = Field(default="preferred_username", description="claim that becomes the user's name")
    oidc_create: bool = Field(default=False, description="whoever the provider knows becomes a user, without a role")
    wechat_app: str = Field(default="", description="appid of the mini-program; empty = no login by WeChat")
    wechat_secret: SecretStr = Field(default=SecretStr(""), description="and its secret")
    wechat_api: str = Field(default="https://api.weixin.qq.com", description="WeChat's server")

    # live video
    video_readers: int = Field(default=16, ge=1, description="sources that one API process holds open for viewers")
    video_width: int = Field(default=1280, ge=160, le=3840, description="widest live video that we encode, pixels")
    video_fps: float = Field(default=15.0, ge=1, le=60, description="most pictures a second of live video that is "
                             "encoded anew")
    mediamtx: str = Field(default="", description="http(s)://host:port at which browsers reach a MediaMTX's WebRTC; "
                          "empty = live video is served by the API alone")
    mediamtx_api: str = Field(default="", description="and http(s)://host:port of its control API, as we reach it")

    # what may be asked for over the network
    camera_files: bool = Field(default=False, description="cameras added through the API may be files, folders and "
                               "devices of the workers' machines; else addresses only")

    # the consumer groups: a dead worker's partitions must be at work elsewhere within 15 s
    session: float = Field(default=10.0, description="seconds without a heartbeat until a worker counts as dead")
    heartbeat: float = Field(default=2.0, description="seconds between heartbeats")
    rebalance: float = Field(default=12.0, description="seconds the others wait for a member to rejoin")

    # work
    threads: int = Field(default=0, ge=0, description="inference threads of a worker; 0 = the cores available")
    runtime: Literal["litert", "openvino", "auto"] = Field(default="litert", description="what the detector runs on; "
                                                           "`auto`: OpenVINO where it is installed and gains much")
    batch: int = Field(default=16, ge=1, description="most messages a stage handles in one turn")
    seed: int = Field(default=20261123, description="of every sample that is drawn")

    # capture
    queue: int = Field(default=16, ge=1, description="pictures of one camera waiting to be sent; the oldest is dropped")
    jpeg_quality: int = Field(default=85, ge=30, le=100, description="of the pictures on `frames`")
    behind: float = Field(default=10.0, description="seconds the mask stage may lag before capture thins its pictures")
    reconnect: float = Field(default=30.0, description="longest wait between two attempts to reach a camera, seconds")

    # dedup
    block_change: float = Field(default=10.0, description="luma levels by which a block of the digest must differ")
    face_change: float = Field(default=5.0, description="the same, for blocks where a face was last seen")
    heartbeat_frame: float = Field(default=1.0, description="a frame passes after so many seconds whatever it shows")
    audit: float = Field(default=0.02, ge=0, le=1, description="share of the dropped frames that is analysed anyway")
    # reading the JPEG and both passes of the detector on a picture of 640×360: `python -m bench steps`, on a quiet core
    look_cost: float = Field(default=6.0, ge=0, description="milliseconds of processor time that one analysed picture "
                             "costs on your machines, by which the savings are told")

    # mask
    face_score: float = Field(default=0.6, ge=0, le=1, description="detector confidence below which there is no face")
    face_pixels: float = Field(default=12.0, description="faces whose shorter side is less are not judged, pixels")
    track_gap: float = Field(default=2.5, description="seconds a track survives without a look")

    # what clocks may be apart: as Kerberos takes them; one that nobody sets is as far off after half a year, at 2 s a
    # day
    ahead: float = Field(default=300.0, gt=0, description="seconds by which what a message says may lie after the time "
                         "of its record; what is further ahead is refused")

    # people
    recognise: float = Field(default=0.001, gt=0, le=0.1, description="share of the looks at strangers that may be "
                             "taken for one of the enrolled people")

    # trajectory
    walk: float = Field(default=2.5, description="fastest a person walks, metres a second")
    away: float = Field(default=300.0, description="seconds after which a person is not expected back")
    grace: float = Field(default=1.0, description="seconds in breach before an episode opens")
    quiet: float = Field(default=20.0, description="seconds without a look in breach before an episode closes")
    settle: float = Field(default=0.5, description="stream seconds a site waits for a camera it has not heard of yet")
    lateness: float = Field(default=20.0, description="seconds a site waits for a camera of which nothing comes")

    # replays started from the API
    replay_longest: float = Field(default=24.0, gt=0, description="most hours of one run")
    replay_queue: int = Field(default=20, ge=1, description="runs that may wait or run at a time")

    @field_validator("public_url")
    @classmethod
    def _address(cls, url: str) -> str:
        parts = urlsplit(url)
        if url and (parts.scheme not in ("http", "https") or not parts.hostname or parts.username is not None):
            raise ValueError(f"expected https://host, got {url!r}")
        return url

    @field_validator("trusted_proxies")
    @classmethod
    def _networks(cls, networks: str) -> str:
        for each in filter(None, map(str.strip, networks.split(","))):
            ip_network(each)  # says itself what is wrong
        return networks

    @property
    def public_origin(self) -> str:
        """As a browser names the pages of `public_url`; empty: there is none."""
        parts = urlsplit(self.public_url.lower())
        usual = {"http": ":80", "https": ":443"}.get(parts.scheme, "")
        return f"{parts.scheme}://{parts.netloc.removesuffix(usual)}" if self.public_url else ""

    @property
    def bootstrap(self) -> str:
        """host:port,… of the brokers in use."""
        return self.kafka or f"127.0.0.1:{self.kafka_port}"

    @property
    def cores(self) -> int:
        return self.threads or available()


def available(group: Path = Path("/sys/fs/cgroup")) -> int:
    """Cores this process may use: those it may run on, and no more than its container's share of processor time."""
    cores = len(os.sched_getaffinity(0))
    with suppress(OSError, ValueError):  # no such limit: "max", -1, or no such file
        limit, period = ((group / "cpu.max").read_text().split() if (group / "cpu.max").exists() else
                         [(group / "cpu" / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")])
        if int(limit) > 0:
            cores = min(cores, max(1, math.ceil(int(limit) / int(period))))
    return cores
