"""H.264 packets as fragmented MP4 (ISO/IEC 14496-12 and -15), one picture a fragment: none waits for the next."""

from __future__ import annotations

import struct

SCALE = 90_000  # units of media time a second
_MATRIX = struct.pack(">9I", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
_SPS, _PPS, _DELIMITER, _KEY = 7, 8, 9, 5  # kinds of NAL units


class NotPlayable(ValueError):
    """Nothing from which a browser could be told what comes."""


def units(data: bytes) -> list[bytes]:
    """The NAL units between start codes (Annex B)."""
    found, at = [], data.find(b"\0\0\1")
    while at >= 0:
        after = data.find(b"\0\0\1", at + 3)
        unit = data[at + 3 : after if after >= 0 else len(data)]
        if after >= 0 or unit.endswith(b"\0"):
            unit = unit.rstrip(b"\0")  # of the next start code; a unit itself never ends in a zero
        if unit:
            found.append(unit)
        at = after
    return found


def annexed(data: bytes) -> bool:
    """Start codes between the units, rather than their lengths before them? For the extradata of a stream or, without
    any, its first keyframe; of any other packet this cannot be told, as a length of 256 to 511 looks like a start code.
    """
    return data[:3] == b"\0\0\1" or data[:4] == b"\0\0\0\1"


def record(data: bytes) -> bytes:
    """The decoder's configuration (`avcC`) from what a container or an encoder calls extradata, or from a keyframe with
    start codes; empty when there is none in it. Raises NotPlayable."""
    if data[:1] == b"\1" and len(data) > 8:
        return data
    parts = units(data) if annexed(data) else []
    sps = list(dict.fromkeys(each for each in parts if each[0] & 31 == _SPS))
    pps = list(dict.fromkeys(each for each in parts if each[0] & 31 == _PPS))
    if not sps or not pps:
        return b""
    if len(sps[0]) < 4 or len(sps) > 31 or len(pps) > 255:
        raise NotPlayable(f"expected parameter sets of H.264, got {len(sps)} and {len(pps)}")
    made = bytes([1, *sps[0][1:4], 0xFF, 0xE0 | len(sps)]) + b"".join(_sized(each) for each in sps)
    made += bytes([len(pps)]) + b"".join(_sized(each) for each in pps)
    if sps[0][1] in (100, 110, 122, 144):  # these profiles say more; 4:2:0 with 8 bits is all that is passed on
        made += bytes([0xFD, 0xF8, 0xF8, 0])
    return made


def _sized(unit: bytes) -> bytes:
    return struct.pack(">H", len(unit)) + unit


def mime(record: bytes) -> str:
    return f'video/mp4; codecs="avc1.{record[1:4].hex()}"'


def sample(data: bytes) -> bytes:
    """A packet with start codes as MP4 wants it: with lengths; parameter sets stand in the init segment."""
    kept = [each for each in units(data) if each[0] & 31 not in (_SPS, _PPS, _DELIMITER)]
    return b"".join(struct.pack(">I", len(each)) + each for each in kept)


def _box(name: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), name) + b"".join(parts)


def _full(name: bytes, version: int, flags: int, *parts: bytes) -> bytes:
    return _box(name, struct.pack(">I", version << 24 | flags), *parts)


def init(width: int, height: int, record: bytes) -> bytes:
    """`ftyp` and `moov` of one H.264 track."""
    avc1 = _box(b"avc1", bytes(6), struct.pack(">H16xHHII4xH32xHh", 1, width, height, 0x480000, 0x480000, 1, 24, -1),
                _box(b"avcC", record))
    table = _box(b"stbl", _full(b"stsd", 0, 0, struct.pack(">I", 1), avc1), *(
        _full(name, 0, 0, bytes(size)) for name, size in ((b"stts", 4), (b"stsc", 4), (b"stsz", 8), (b"stco", 4))))
    where = _box(b"dinf", _full(b"dref", 0, 0, struct.pack(">I", 1), _full(b"url ", 0, 1)))
    media = _box(
        b"mdia", _full(b"mdhd", 0, 0, struct.pack(">IIIIHH", 0, 0, SCALE, 0, 0x55C4, 0)),
        _full(b"hdlr", 0, 0, struct.pack(">I4s12x", 0, b"vide"), b"video\0"),
        _box(b"minf", _full(b"vmhd", 0, 1, bytes(8)), where, table),
    )  # fmt: skip
    head = _full(b"tkhd", 0, 3, struct.pack(">IIIII8xHHHH", 0, 0, 1, 0, 0, 0, 0, 0, 0), _MATRIX,
                 struct.pack(">II", width << 16, height << 16))
    movie = _full(b"mvhd", 0, 0, struct.pack(">IIIIIHxxxxxxxxxx", 0, 0, SCALE, 0, 0x10000, 0x100), _MATRIX, bytes(24),
                  struct.pack(">I", 2))
    extends = _box(b"mvex", _full(b"trex", 0, 0, struct.pack(">IIIII", 1, 1, 0, 0, 0)))
    brands = struct.pack(">4sI4s4s4s", b"iso5", 512, b"iso5", b"iso6", b"mp41")
    return _box(b"ftyp", brands) + _box(b"moov", movie, _box(b"trak", head, media), extends)


def fragment(number: int, dts: int, lasts: int, shift: int, key: bool, sample: bytes) -> bytes:
    """`moof` and `mdat` of one picture: decoded at `dts`, shown `shift` later, both in units of SCALE."""
    flags = 0x02000000 if key else 0x01010000  # needs no other · needs others, and is not a place to begin
    head = _full(b"mfhd", 0, 0, struct.pack(">I", number & 0xFFFFFFFF))
    track = _full(b"tfhd", 0, 0x020000, struct.pack(">I", 1))  # positions count from this moof
    time = _full(b"tfdt", 1, 0, struct.pack(">Q", dts))

    def run(offset: int) -> bytes:
        return _full(b"trun", 1, 0xF01, struct.pack(">IiIIIi", 1, offset, lasts, len(sample), flags, shift))

    whole = 8 + len(head) + 8 + len(track) + len(time) + len(run(0))
    return _box(b"moof", head, _box(b"traf", track, time, run(whole + 8))) + _box(b"mdat", sample)
