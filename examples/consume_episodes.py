"""Follows the topic `episodes` and prints a line whenever a breach opens or closes. Needs nothing of Maskwatch:

pip install kafka-python
python consume_episodes.py --kafka 127.0.0.1:9092
"""

import argparse
import json
from datetime import UTC, datetime

from kafka import KafkaConsumer


def clock(micros):
    """Times in the messages are whole microseconds since 1970-01-01T00:00:00Z."""
    return datetime.fromtimestamp(micros / 1e6, UTC).strftime("%Y-%m-%d %H:%M:%S")


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kafka", default="127.0.0.1:9092", help="host:port of a broker")
    arguments.add_argument("--topic", default="episodes", help="with the prefix, if the installation has one")
    arguments.add_argument("--group", help="remember under this name what has been read (default: start at the oldest)")
    arguments.add_argument("--idle", type=float, help="end after so many seconds without a message")
    given = arguments.parse_args()
    consumer = KafkaConsumer(
        given.topic,
        bootstrap_servers=given.kafka.split(","),
        group_id=given.group,
        auto_offset_reset="earliest",
        consumer_timeout_ms=given.idle * 1000 if given.idle else float("inf"),
    )
    # Messages come at least once, and each tells the whole of its episode: keep the newest of each id.
    status = {}
    for record in consumer:
        episode = json.loads(record.value)
        if status.get(episode["id"]) == episode["status"]:
            continue
        status[episode["id"]] = episode["status"]
        seconds = (episode["end"] - episode["start"]) / 1e6
        why = f" ({episode['reason']})" if episode["reason"] else ""
        print(
            f"{clock(episode['at'])}  {episode['status']:6}  mask {episode['state']}  {episode['site']}: "
            f"{' -> '.join(episode['cameras'])}, {seconds:.0f} s, {episode['looks']} looks{why}",
            flush=True,
        )
    consumer.close()


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        pass
