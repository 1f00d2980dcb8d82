"""Each kind of channel against a server of its kind: what arrives, whether it is signed, what is tried again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ipaddress
import socket
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import receivers
import trustme

from api.messengers import KINDS, dingtalk, feishu, mqtt, note, reach, secret, smtp, webhook, wecom
from api.messengers.note import Later, Note, Refused
from api.messengers.reach import Reach

HERE = Reach.of("127.0.0.0/8")
JPEG = b"\xff\xd8 a face \xff\xd9"
FACTS = {
    "id": "gate@1700000000000000#0!1700000000000000", "kind": "episode", "site": "hall", "cameras": ["gate"],
    "camera_names": ["北门"], "zone": "ward", "state": "none", "start": 1_700_000_000_000_000,
    "end": 1_700_000_012_000_000, "timezone": "Asia/Shanghai", "rule": "wards", "picture": "evidence/1.jpg",
}  # fmt: skip


@pytest.fixture(autouse=True)
def secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("ONE", "right"), ("TOKEN", "t/0ken"), ("WRONG", "wrong")):
        monkeypatch.setenv(f"MASKWATCH_SECRET_{name}", value)
        monkeypatch.setenv(f"MASKWATCH_SECRET_{name}_HOSTS", "127.0.0.1, LocalHost.")


def told(language: str = "zh-CN", what: str = "alert", picture: bytes = b"", **facts: Any) -> Note:
    return note.write("d" * 32, what, language, FACTS | facts, "https://mask.example", picture)


def test_what_is_said() -> None:
    zh, en = told(), told("en", "escalation")
    assert zh.title == "【告警】北门 未戴口罩"
    assert zh.lines == ("场所：hall", "摄像头：北门", "区域：ward", "开始时间：2023-11-15 06:13:20", "已持续：12 秒")
    assert zh.link == "https://mask.example/episodes/gate%401700000000000000%230%211700000000000000"
    assert en.title == "[Escalation] 北门 no mask"
    assert en.lines[-1] == "nobody has acknowledged it yet"
    down = told("en", "end", kind="camera", id="gate!1", state="down", end=FACTS["start"] + 600_000_000)
    assert (down.title, down.lines[-1]) == ("[Over] 北门 camera is up again", "Lasted: 10 min")
    assert down.link == "https://mask.example/cameras/gate"


def test_a_webhook_is_signed_and_carries_the_picture_only_when_it_may() -> None:
    with receivers.web() as server:
        options = webhook.Webhook(f"{server.url}/in?a=1", "MASKWATCH_SECRET_ONE")
        assert webhook.send(options, told(picture=JPEG), HERE).startswith("200")
        webhook.send(webhook.Webhook(server.url), told(), HERE)
    first, second = server.got
    fields = dict(each.split("=") for each in first.headers["maskwatch-signature"].split(","))
    assert fields["v1"] == hmac.new(b"right", f"{fields['t']}.".encode() + first.body, hashlib.sha256).hexdigest()
    assert abs(int(fields["t"]) - time.time()) < 5
    assert (first.path, first.headers["maskwatch-delivery"]) == ("/in?a=1", "d" * 32)
    assert base64.b64decode(first.json["picture"]) == JPEG
    assert (first.json["state"], first.json["title"]) == ("none", "【告警】北门 未戴口罩")
    assert "picture" not in second.json
    assert "maskwatch-signature" not in second.headers


@pytest.mark.parametrize(("answer", "raised", "after"), [
    ((500, b"oops", {}), Later, 0), ((429, b"", {"retry-after": "120"}), Later, 120), ((404, b"gone", {}), Refused, 0),
    ((302, b"", {"location": "http://127.0.0.1:1/"}), Refused, 0),
])  # fmt: skip
def test_what_a_webhook_answers_is_tried_again_or_not(answer: Any, raised: type[Exception], after: float) -> None:
    with receivers.web() as server:
        server.answers = [answer]
        with pytest.raises(raised) as error:
            webhook.send(webhook.Webhook(server.url), told(), HERE)
    assert len(server.got) == 1, "redirects are not followed"
    assert str(answer[0]) in str(error.value)
    assert getattr(error.value, "after", 0) == after


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "10.1.2.3", "[::1]", "[::ffff:10.0.0.1]", "169.254.169.254",
                                  "0.0.0.0", "[fd00::1]", "[64:ff9b::a00:1]", "2130706433", "224.0.0.1"])
def test_where_a_message_may_not_go(host: str) -> None:
    with pytest.raises(Refused, match="MASKWATCH_ALERT_NETWORKS"):
        webhook.send(webhook.Webhook(f"http://{host}/"), told(), Reach())
    with pytest.raises(Refused, match="MASKWATCH_ALERT_NETWORKS"):
        smtp.send(smtp.Smtp(host, "a@b.c", ["a@b.c"]), told(), Reach())
    with pytest.raises(Refused, match="MASKWATCH_ALERT_NETWORKS"):
        mqtt.send(mqtt.Mqtt(host, "t"), told(), Reach())


@pytest.mark.parametrize(("address", "may"), [
    ("1.1.1.1", True), ("8.8.8.8", True), ("203.0.112.255", True), ("192.0.1.1", True), ("192.88.98.1", True),
    ("2606:4700:4700::1111", True), ("2400:3200::1", True), ("::ffff:1.1.1.1", True),
    ("0.0.0.1", False), ("10.0.0.1", False), ("100.64.0.1", False), ("127.0.0.1", False), ("169.254.1.1", False),
    ("172.31.255.255", False), ("192.0.0.8", False), ("192.0.0.9", False), ("192.0.0.170", False),
    ("192.0.2.1", False), ("192.88.99.1", False), ("192.168.1.1", False), ("198.19.255.255", False),
    ("198.51.100.1", False), ("203.0.113.1", False), ("224.0.0.1", False), ("239.255.255.255", False),
    ("240.0.0.1", False), ("255.255.255.255", False),
    ("::", False), ("::1", False), ("::10.0.0.1", False), ("::1.1.1.1", False), ("::ffff:10.0.0.1", False),
    ("::ffff:192.88.99.1", False), ("::ffff:0:10.0.0.1", False), ("64:ff9b::10.0.0.1", False),
    ("64:ff9b:1::1", False), ("100::1", False), ("2001::1", False), ("2001:20::1", False), ("2001:db8::1", False),
    ("2002:a00:1::1", False), ("3fff::1", False), ("5f00::1", False), ("fc00::1", False), ("fe80::1", False),
    ("fec0::1", False), ("feff::1", False), ("ff02::1", False),
])  # fmt: skip
def test_which_addresses_are_public(address: str, may: bool) -> None:
    assert Reach().may(ipaddress.ip_address(address)) == may
    assert Reach.of("0.0.0.0/0, ::/0").may(ipaddress.ip_address(address))


def test_nobody_listens_nothing_resolves_or_the_answer_never_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "WHOLE", 0.5)
    with receivers.web() as server:
        gone = server.url
    for url in (gone, "http://no-such-host.invalid/"):
        with pytest.raises(Later):
            webhook.send(webhook.Webhook(url), told(), HERE)
    with receivers.drip() as port:
        begun = time.monotonic()
        with pytest.raises(Later):
            webhook.send(webhook.Webhook(f"http://127.0.0.1:{port}/"), told(), HERE)
        assert time.monotonic() - begun < 2
    with receivers.drip() as port, pytest.raises(Later):
        smtp.send(smtp.Smtp("127.0.0.1", "a@b.c", ["a@b.c"], port, "none"), told(), HERE)
    with receivers.drip() as port, pytest.raises(Later):
        mqtt.send(mqtt.Mqtt("127.0.0.1", "t", port, "none"), told(), HERE)


def test_a_secret_that_is_not_there_is_named_and_none_is_shown() -> None:
    with pytest.raises(Refused, match="MASKWATCH_SECRET_"):
        webhook.send(webhook.Webhook("http://127.0.0.1/", "PATH"), told(), HERE)
    with receivers.web() as server:
        server.answers = [(200, b'{"errcode": 93000, "errmsg": "no robot t/0ken, t%2F0ken"}', {})]
        with pytest.raises(Refused, match="93000") as error:
            wecom.send(wecom.WeCom("MASKWATCH_SECRET_TOKEN", server.url), told(), HERE)
    assert "0ken" not in str(error.value)


def options(kind: str, host: str, name: str, readable: bool = False) -> Any:
    """A channel of each kind that sends a secret to a host."""
    url, security = f"http{'' if readable else 's'}://{host}/", "none" if readable else "tls"
    match kind:
        case "webhook":
            return webhook.Webhook(url, name)
        case "smtp":
            return smtp.Smtp(host, "a@b.c", ["a@b.c"], 25, security, "m", name)
        case "mqtt":
            return mqtt.Mqtt(host, "t", 1883, security, "m", name)
    return {"wecom": wecom.WeCom, "dingtalk": dingtalk.DingTalk, "feishu": feishu.Feishu}[kind](name, address=url)


@pytest.mark.parametrize("kind", KINDS)
def test_a_secret_goes_only_where_the_environment_says(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither when it is written nor when it is sent; and what is said is the same of a name that nobody has."""
    monkeypatch.setenv("MASKWATCH_SECRET_FREE", "value")
    monkeypatch.setenv("MASKWATCH_SECRET_TOKEN_HOSTS", "chat.example.org")
    monkeypatch.setattr(Reach, "find", lambda *_: pytest.fail("nothing is looked up for it"))
    said = set()
    for name in ("MASKWATCH_SECRET_FREE", "MASKWATCH_SECRET_TOKEN", "MASKWATCH_SECRET_ABSENT"):
        stolen = options(kind, "attacker.example", name)
        why = secret.wrong(KINDS[kind].use(stolen))
        with pytest.raises(Refused) as error:
            KINDS[kind].send(stolen, told(), HERE)
        assert str(error.value) == why
        said.add(why.replace(name, "NAME"))
    assert len(said) == 1
    assert "NAME_HOSTS" in said.pop()
    assert secret.wrong(KINDS[kind].use(options(kind, "Chat.Example.org.", "MASKWATCH_SECRET_TOKEN"))) == ""
    # the variable that names the hosts is no secret that could be sent
    assert secret.wrong(KINDS[kind].use(options(kind, "127.0.0.1", "MASKWATCH_SECRET_ONE_HOSTS")))
    for name in ("MASKWATCH_SECRET_ABSENT", "MASKWATCH_SECRET_TOKEN"):  # bound elsewhere: as if it were not there
        for vendor in getattr(KINDS[kind], "VENDOR", ()):
            own = options(kind, vendor, name)
            assert secret.wrong(KINDS[kind].use(own)) == ""
            with pytest.raises(Refused, match=f"{name} cannot be sent to {vendor}: it is not in the environment"):
                KINDS[kind].send(own, told(), HERE)


def test_a_robot_of_the_vendors_own_needs_no_binding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKWATCH_SECRET_FREE", "value")
    went = []

    def connect(_: Reach, host: str, port: int) -> None:
        went.append((host, port))
        raise Later("not in a test")

    monkeypatch.setattr(Reach, "connect", connect)
    for module, kind in ((wecom, wecom.WeCom), (dingtalk, dingtalk.DingTalk), (feishu, feishu.Feishu)):
        with pytest.raises(Later, match="not in a test"):
            module.send(kind("MASKWATCH_SECRET_FREE"), told(), HERE)
    assert went == [("qyapi.weixin.qq.com", 443), ("oapi.dingtalk.com", 443), ("open.feishu.cn", 443)]


class Far(socket.socket):
    """A connection that says to lead far away."""

    def getpeername(self) -> Any:
        return "203.0.113.5", 1


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "webhook"])  # there the secret stays here
def test_no_secret_goes_out_without_tls_but_to_this_machine(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASKWATCH_SECRET_ONE_HOSTS", "127.0.0.1, mail.example.org")
    for host in ("127.0.0.1", "mail.example.org"):
        plain = options(kind, host, "MASKWATCH_SECRET_ONE", readable=True)
        assert ("expected TLS" in secret.wrong(KINDS[kind].use(plain))) == (host != "127.0.0.1")
    server = {"smtp": receivers.post, "mqtt": receivers.mqtt}.get(kind, receivers.web)
    with server() as other:
        plain = options(kind, "127.0.0.1", "MASKWATCH_SECRET_ONE", readable=True)
        if hasattr(plain, "port"):
            plain.port = other.port
        else:
            plain.address = other.url
        monkeypatch.setattr(socket, "socket", Far)
        with pytest.raises(Refused, match="expected TLS"):
            KINDS[kind].send(plain, told(), HERE)
    assert other.got == []
    assert getattr(other, "logins", []) == []


def test_the_robots_of_three_group_chats() -> None:
    with receivers.web() as server:
        wecom.send(wecom.WeCom("MASKWATCH_SECRET_TOKEN", f"{server.url}/wecom"), told(picture=JPEG), HERE)
        dingtalk.send(dingtalk.DingTalk("MASKWATCH_SECRET_TOKEN", "MASKWATCH_SECRET_ONE", f"{server.url}/ding"), told(),
                      HERE)
        feishu.send(feishu.Feishu("MASKWATCH_SECRET_TOKEN", "MASKWATCH_SECRET_ONE", f"{server.url}/fei/"), told(), HERE)
        server.answers = [(200, b'{"errcode": 130101, "errmsg": "too fast"}', {}), (200, b"<html>", {})]
        for _ in range(2):
            with pytest.raises(Later):
                dingtalk.send(dingtalk.DingTalk("MASKWATCH_SECRET_TOKEN", address=server.url), told(), HERE)
    text, image, ding, fei = server.got[:4]
    assert (text.path, text.json["msgtype"]) == ("/wecom?key=t%2F0ken", "text")
    assert text.json["text"]["content"].splitlines()[0] == "【告警】北门 未戴口罩"
    assert base64.b64decode(image.json["image"]["base64"]) == JPEG
    assert image.json["image"]["md5"] == hashlib.md5(JPEG).hexdigest()

    asked = {name: values[0] for name, values in parse_qs(urlsplit(ding.path).query).items()}
    expected = hmac.new(b"right", f"{asked['timestamp']}\nright".encode(), hashlib.sha256).digest()
    assert (asked["access_token"], asked["sign"]) == ("t/0ken", base64.b64encode(expected).decode())
    assert abs(int(asked["timestamp"]) / 1000 - time.time()) < 5

    assert (fei.path, fei.json["msg_type"]) == ("/fei/t%2F0ken", "text")
    expected = hmac.new(f"{fei.json['timestamp']}\nright".encode(), b"", hashlib.sha256).digest()
    assert fei.json["sign"] == base64.b64encode(expected).decode()


def test_mail_by_tls_with_login_and_an_attachment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with receivers.post(context) as server:
        options = smtp.Smtp("localhost", "mask@example.org", ["a@example.org", "b@example.org"], server.port, user="m",
                            password="MASKWATCH_SECRET_ONE")
        with pytest.raises(Later, match="CERTIFICATE_VERIFY_FAILED"):
            smtp.send(options, told(picture=JPEG), Reach.of("127.0.0.0/8,::1/128"))
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
        assert smtp.send(options, told(picture=JPEG), HERE) == "taken for 2"
        smtp.send(options, told(camera_names=["北门\r\nBcc: x@example.org\u2028door"]), HERE)
    mail, named = server.got
    assert named["subject"] == "【告警】北门 Bcc: x@example.org door 未戴口罩"
    assert named["bcc"] is None
    assert server.to == [["a@example.org", "b@example.org"]] * 2
    assert (server.secured, server.logins) == ([True] * 2, [("m", "right")] * 2)
    assert (mail["subject"], mail["maskwatch-delivery"]) == ("【告警】北门 未戴口罩", "d" * 32)
    body, picture = mail.iter_parts()
    assert "摄像头：北门" in body.get_content()
    assert picture.get_content() == JPEG


def test_mail_that_is_refused_for_now_or_for_good() -> None:
    with receivers.post() as server:
        def send(**more: Any) -> str:
            options = smtp.Smtp("127.0.0.1", "m@example.org", ["a@example.org"], server.port, **more)
            return smtp.send(options, told(), HERE)

        with pytest.raises(Refused, match="STARTTLS"):
            send()
        with pytest.raises(Refused, match="535"):
            send(security="none", user="m", password="MASKWATCH_SECRET_WRONG")
        server.refuse_recipients = "550 unknown"
        with pytest.raises(Refused, match="550"):
            send(security="none")
        server.refuse_recipients = "451 greylisted"
        with pytest.raises(Later, match="451"):
            send(security="none")
        server.refuse_recipients, server.refuse_mail = "", ["452 full"]
        with pytest.raises(Later, match="452"):
            send(security="none")
        assert send(security="none") == "taken for 1"
    assert len(server.got) == 1


def test_mqtt_waits_for_the_acknowledgement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "WHOLE", 0.5)
    with receivers.mqtt() as broker:
        options = mqtt.Mqtt("127.0.0.1", "mask/hall", broker.port, "none", "m", "MASKWATCH_SECRET_ONE", retain=True)
        assert mqtt.send(options, told(picture=JPEG * 100), HERE) == "acknowledged"
        broker.silent = True
        with pytest.raises(Later, match="timed out"):
            mqtt.send(options, told(), HERE)
        broker.code = 4
        with pytest.raises(Refused, match="user or password"):
            mqtt.send(options, told(), HERE)
    topic, content, retained = broker.got[0]
    assert (topic, retained, broker.logins[0]) == ("mask/hall", True, ("m", "right"))
    assert (content["id"], content["alert"]) == ("d" * 32, FACTS["id"])
    assert (content["state"], base64.b64decode(content["picture"])) == ("none", JPEG * 100)
