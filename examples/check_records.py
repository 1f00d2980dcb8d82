"""Checks records against a published JSON Schema. Needs nothing of Maskwatch but the schema file:

    pip install kafka-python jsonschema
    python check_records.py docs/contract/faces.schema.json --kafka 127.0.0.1:9092 --topic faces
    kcat -b 127.0.0.1:9092 -t faces -e -q | python check_records.py docs/contract/faces.schema.json

The first reads a topic from its beginning to its present end; the second reads lines. The last line printed is a count;
the exit code is 1 when a record does not fit.
"""

import argparse
import json
import sys

from jsonschema import Draft202012Validator


def from_topic(bootstrap, topic):
    """(where, value) of each record that the topic holds now."""
    from kafka import KafkaConsumer, TopicPartition

    consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","))
    parts = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    if not parts:
        sys.exit(f"expected a topic {topic} at {bootstrap}, found none")
    consumer.assign(parts)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(parts)
    while any(consumer.position(part) < ends[part] for part in parts):
        for part, records in consumer.poll(timeout_ms=1000).items():
            for record in records:
                # an empty value is a tombstone: it removes its key from a compacted topic
                if record.offset < ends[part] and record.value is not None:
                    yield f"{topic}[{part.partition}]@{record.offset}", record.value
    consumer.close()


def from_lines(lines):
    for number, line in enumerate(lines, 1):
        if line.strip():
            yield f"line {number}", line


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("schema", help="a file of docs/contract/")
    arguments.add_argument("--kafka", default="127.0.0.1:9092", help="host:port of a broker")
    arguments.add_argument("--topic", help="read this topic; without it, lines from standard input")
    given = arguments.parse_args()
    with open(given.schema, encoding="utf-8") as file:
        validator = Draft202012Validator(json.load(file))
    records = from_topic(given.kafka, given.topic) if given.topic else from_lines(sys.stdin.buffer)
    read = wrong = 0
    for where, value in records:
        read += 1
        try:
            faults = [f"{fault.json_path}: {fault.message}" for fault in validator.iter_errors(json.loads(value))]
        except ValueError as error:
            faults = [f"expected JSON: {error}"]
        if faults:
            wrong += 1
            print(f"{where}: {'; '.join(faults)[:500]}")
    print(f"{read} records, {wrong} do not fit {validator.schema['$id']}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
