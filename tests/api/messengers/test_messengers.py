"""Each kind of channel against a server of its kind: what arrives, whether it is signed, what is tried again."""

from __future__ import annotations

import base64
import hashlib
import hmac
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import receivers
import trustme

from api.messengers import dingtalk, feishu, mqtt, note, reach, smtp, webhook, wecom
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
    with receivers.web() as server, pytest.raises(Refused, match="MASKWATCH_SECRET_NONE in the environment"):
        webhook.send(webhook.Webhook(server.url, "MASKWATCH_SECRET_NONE"), told(), HERE)
    with pytest.raises(Refused, match="MASKWATCH_SECRET_"):
        webhook.send(webhook.Webhook(server.url, "PATH"), told(), HERE)
    with receivers.web() as server:
        server.answers = [(200, b'{"errcode": 93000, "errmsg": "no robot t/0ken"}', {})]
        with pytest.raises(Refused, match="93000") as error:
            wecom.send(wecom.WeCom("MASKWATCH_SECRET_TOKEN", server.url), told(), HERE)
    assert "t/0ken" not in str(error.value)


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
    (mail,) = server.got
    assert server.to == [["a@example.org", "b@example.org"]]
    assert (server.secured, server.logins) == ([True], [("m", "right")])
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
