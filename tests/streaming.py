"""A server of real RTSP streams, for whoever reads them: cameras and live video."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest

_RTSP = """
import sys, gi
gi.require_version("Gst", "1.0"); gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer
Gst.init(None)
clip, port, password = sys.argv[1:4]
server = GstRtspServer.RTSPServer()
server.set_address("127.0.0.1"); server.set_service(port)
factory = GstRtspServer.RTSPMediaFactory()
if clip == "-":
    factory.set_launch("( videotestsrc is-live=true pattern=ball ! video/x-raw,width=320,height=180,framerate=25/1 ! "
        "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 )")
else:
    factory.set_launch(f"( filesrc location={clip} ! qtdemux ! h264parse ! rtph264pay name=pay0 pt=96 )")
factory.set_shared(True)
if password:
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "user")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic("viewer", password), token)
    server.set_auth(auth)
    role = Gst.Structure.new_empty("user")
    role.set_value("media.factory.access", True); role.set_value("media.factory.construct", True)
    permissions = GstRtspServer.RTSPPermissions.new()
    permissions.add_role_from_structure(role)
    factory.set_permissions(permissions)
server.get_mount_points().add_factory("/cam", factory)
server.attach(None)
print(server.get_bound_port(), flush=True)
GLib.MainLoop().run()
"""


class Server:
    """A process that serves a stream; `port` is where."""

    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process, self.port = process, port

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()


@pytest.fixture
def rtsp() -> Iterator[Callable[..., Server]]:
    """rtsp(clip="-" for a live test picture, port="0", password="") -> a GStreamer RTSP server, path /cam."""
    probe = "import gi; gi.require_version('GstRtspServer', '1.0'); from gi.repository import GstRtspServer"
    if subprocess.run(["/usr/bin/python3", "-c", probe], capture_output=True).returncode:
        pytest.skip("needs infra/apt-test.txt: gir1.2-gst-rtsp-server-1.0, python3-gi")
    running: list[Server] = []

    def start(clip: str = "-", port: int = 0, password: str = "") -> Server:
        process = subprocess.Popen(
            ["/usr/bin/python3", "-c", _RTSP, clip, str(port), password],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert process.stdout
        server = Server(process, int(process.stdout.readline()))
        running.append(server)
        return server

    yield start
    for server in running:
        server.kill()
