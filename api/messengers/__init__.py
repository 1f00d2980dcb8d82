"""Ways to reach people: one file a kind, each with its options and a `send` that returns what the other side said."""

from __future__ import annotations

from types import ModuleType

from api.messengers import dingtalk, feishu, mqtt, smtp, webhook, wecom

# kind -> options: msgspec Struct with that tag; PICTURES: whether it can carry one; use(options): of secrets;
# send(options, note, reach)
KINDS: dict[str, ModuleType] = {
    "webhook": webhook, "smtp": smtp, "mqtt": mqtt, "wecom": wecom, "dingtalk": dingtalk, "feishu": feishu,
}  # fmt: skip
Options = webhook.Webhook | smtp.Smtp | mqtt.Mqtt | wecom.WeCom | dingtalk.DingTalk | feishu.Feishu

__all__ = ["KINDS", "Options"]
