"""topics.yaml on a real cluster: planned, applied, altered, refused."""

from __future__ import annotations

import msgspec
import pytest

from agents import topics
from agents.topics import Refused, admin, apply, plan
from pipeline import topics as contract
from pipeline.settings import Settings
from pipeline.topics import Topic


def altered(name: str, **changes: object) -> tuple[Topic, ...]:
    """topics.yaml with one topic otherwise."""
    return tuple(
        msgspec.structs.replace(topic, **changes) if topic.name == name else topic for topic in contract.load()
    )


def on_broker(settings: Settings) -> dict[str, int]:
    """Name without prefix -> partitions."""
    with admin(settings) as client:
        names = [name for name in client.list_topics() if name.startswith(settings.topic_prefix)]
        if not names:
            return {}
        return {
            entry["name"].removeprefix(settings.topic_prefix): len(entry["partitions"])
            for entry in client.describe_topics(names)
        }


def config_of(settings: Settings, name: str) -> dict[str, str]:
    full = settings.topic_prefix + name
    with admin(settings) as client:
        return {key: entry["value"] for key, entry in topics.configs_of(client, [full])[full].items()}


def test_plan_shows_and_apply_does_and_then_there_is_nothing_to_do(settings: Settings):
    before = plan(settings)
    assert [(change.kind, change.topic) for change in before.changes] == [
        ("create", settings.topic_prefix + topic.name) for topic in contract.load()
    ]
    assert before.changes[0].about == "partitions 8, copies 1, kept 24 h"
    assert on_broker(settings) == {}, "a plan changes nothing"

    heard: list[topics.Plan] = []
    assert apply(settings, tell=heard.append) == before
    assert heard == [before]

    assert on_broker(settings) == {topic.name: topic.partitions for topic in contract.load()}
    for topic in contract.load():
        assert config_of(settings, topic.name).items() >= contract.config(topic).items()
    assert plan(settings) == topics.Plan()
    assert apply(settings) == topics.Plan()


def test_another_retention_cleanup_and_size_are_altered_in_place(settings: Settings):
    apply(settings)
    wish = altered("frames", retention=3600, max_bytes=2_000_000)

    [change] = plan(settings, wish).changes
    assert (change.kind, change.topic) == ("config", settings.topic_prefix + "frames")
    assert change.about == (
        "max.message.bytes 4194304 -> 2000000, retention.ms 86400000 -> 3600000, segment.ms 10800000 -> 450000"
    )
    apply(settings, wish)
    assert config_of(settings, "frames").items() >= contract.config(wish[0]).items()
    assert plan(settings, wish) == topics.Plan()

    # what the contract no longer gives goes back to the broker's default
    loose = altered("cameras", cleanup="delete")
    apply(settings, loose)
    given = config_of(settings, "cameras")
    assert (given["cleanup.policy"], given["min.cleanable.dirty.ratio"]) == ("delete", "0.5")
    assert config_of(settings, "frames")["retention.ms"] == "86400000", "and frames is as it was"
    assert plan(settings, loose) == topics.Plan()


def test_more_partitions_are_refused_until_they_are_allowed(settings: Settings):
    apply(settings)
    wish = altered("faces", partitions=12)

    [reason] = plan(settings, wish).refused
    assert reason.startswith(f"{settings.topic_prefix}faces: partitions 8 -> 12 moves keys: ")
    assert "--allow-repartition" in reason
    with pytest.raises(Refused, match="partitions 8 -> 12 moves keys"):
        apply(settings, wish)
    assert on_broker(settings)["faces"] == 8

    done = apply(settings, wish, allow_repartition=True)
    assert [change.kind for change in done.changes] == ["partitions"]
    assert on_broker(settings)["faces"] == 12
    assert plan(settings, wish) == topics.Plan()


def test_fewer_partitions_are_impossible_and_nothing_else_is_done_then(settings: Settings):
    apply(settings)
    wish = altered("episodes", partitions=2, retention=3600)
    with pytest.raises(Refused, match=r"has 4 partitions, topics\.yaml says 2; Kafka cannot take partitions away"):
        apply(settings, wish, allow_repartition=True)
    assert config_of(settings, "episodes")["retention.ms"] == str(90 * 86400 * 1000)


def test_topics_and_settings_of_others_are_left_alone(settings: Settings):
    apply(settings)
    with admin(settings) as client:
        client.create_topics({settings.topic_prefix + "theirs": {"num_partitions": 1, "replication_factor": 1}})
        client.alter_configs(
            [
                topics.ConfigResource(
                    topics.ConfigResourceType.TOPIC, settings.topic_prefix + "frames", {"compression.type": "lz4"}
                )
            ]
        )
    assert apply(settings) == topics.Plan()
    assert "theirs" in on_broker(settings)
    assert config_of(settings, "frames")["compression.type"] == "lz4"


def test_replication_is_asked_for_and_noted_where_it_is_otherwise(settings: Settings):
    apply(settings)
    three = settings.model_copy(update={"replication": 3})

    found = plan(three)
    assert len(found.notes) == len(contract.load())
    assert "has 1 copies of a partition, the settings say 3" in found.notes[0]
    assert {change.about for change in found.changes} == {"min.insync.replicas 1 -> 2"}


def test_the_topics_of_a_replay_are_made_the_same_way(settings: Settings):
    apply(settings, contract.replay("run-1"))
    assert set(on_broker(settings)) == {f"replay.run-1.{name}" for name in contract.REPLAYED}


def test_workers_that_start_at_once_do_not_trip_over_each_other(settings: Settings):
    """Both have seen an empty cluster; the second finds the topics made when it comes to make them."""
    late = plan(settings)
    apply(settings)
    with admin(settings) as client:
        for change in late.changes:
            topics.carry_out(client, settings, change)
    assert plan(settings) == topics.Plan()


def test_the_page_follows_the_topics_that_the_contract_says_it_reads():
    from api.watch import FOLLOWED

    assert sorted(FOLLOWED) == sorted(topic.name for topic in contract.load() if "api" in topic.readers)
