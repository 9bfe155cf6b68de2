"""The record of one clip: a `tf.train.Example` in a TFRecord file, encoded and decoded without TensorFlow.

    audio          float_list, clip_samples values in [-1, 1]
    track_id       bytes_list, e.g. b"classical.00045"
    genre          bytes_list, e.g. b"classical"
    sample_rate_hz int64_list
    valid_samples  int64_list, samples before padding
    source_sha256  bytes_list, of the source file, 64 hexadecimal digits
    source_uri     bytes_list
    loudness_db, centroid_hz, tempo_bpm, beat_clarity   float_list, one value each; NaN where it cannot be measured
    key            bytes_list, e.g. b"A minor"; b"" where it is not clear
    key_clarity    float_list; NaN where it cannot be measured

Importing TensorFlow would cost every worker seconds and hundreds of megabytes. The message is wire-compatible:
the tests exchange records with TensorFlow in both directions. `preprocessing.dataset.tfrecord` has the framing.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto


class Attributes(NamedTuple):
    """The measured attributes of a clip (see `preprocessing.features.attributes`); NaN where not measurable."""

    loudness_db: float
    centroid_hz: float
    tempo_bpm: float
    beat_clarity: float  # in [0, 1]


class Key(NamedTuple):
    """The key of a clip (see `preprocessing.features.key`)."""

    name: str  # one of `keys.KEYS`, or empty: not clear enough
    clarity: float  # NaN where not measurable


class Record(NamedTuple):
    """One clip. `audio` is `[clip_samples]` float32 in [-1, 1], zero from `valid_samples` on."""

    audio: np.ndarray
    track_id: str
    genre: str
    sample_rate_hz: int
    valid_samples: int
    source_sha256: str
    source_uri: str
    attributes: Attributes
    key: Key


def _example_class() -> Any:
    """Return the message class of `tf.train.Example` (tensorflow/core/example/{example,feature}.proto).

    It is in a descriptor pool of its own, so that TensorFlow can register its own copy in the same process.
    """
    file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="tensorflow", syntax="proto3")

    def message(name: str, *fields: tuple) -> descriptor_pb2.DescriptorProto:
        descriptor = file.message_type.add(name=name)
        for number, (field, kind, label, type_name) in enumerate(fields, start=1):
            descriptor.field.add(name=field, number=number, type=kind, label=label, type_name=type_name)
        return descriptor

    optional, repeated = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
    message("BytesList", ("value", _Field.TYPE_BYTES, repeated, None))
    message("FloatList", ("value", _Field.TYPE_FLOAT, repeated, None))
    message("Int64List", ("value", _Field.TYPE_INT64, repeated, None))
    feature = message(
        "Feature",
        ("bytes_list", _Field.TYPE_MESSAGE, optional, ".tensorflow.BytesList"),
        ("float_list", _Field.TYPE_MESSAGE, optional, ".tensorflow.FloatList"),
        ("int64_list", _Field.TYPE_MESSAGE, optional, ".tensorflow.Int64List"),
    )
    feature.oneof_decl.add(name="kind")
    for field in feature.field:
        field.oneof_index = 0
    features = message(
        "Features", ("feature", _Field.TYPE_MESSAGE, repeated, ".tensorflow.Features.FeatureEntry")
    )
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_Field.TYPE_STRING, label=optional)
    entry.field.add(
        name="value", number=2, type=_Field.TYPE_MESSAGE, label=optional, type_name=".tensorflow.Feature"
    )
    message("Example", ("features", _Field.TYPE_MESSAGE, optional, ".tensorflow.Features"))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _example_class()


def encode(record: Record) -> bytes:
    """Serialize a record to a `tf.train.Example`; equal records give equal bytes."""
    example = Example()
    feature = example.features.feature
    # Assigning 90,001 Python floats takes 20 ms; parsing the same list from packed bytes takes 0.1 ms.
    packed = np.ascontiguousarray(record.audio, "<f4").tobytes()
    feature["audio"].float_list.MergeFromString(b"".join((b"\x0a", _varint(len(packed)), packed)))
    for name in ("track_id", "genre", "source_sha256", "source_uri"):
        text = getattr(record, name).encode("utf-8", "surrogateescape")  # a path may hold any bytes
        feature[name].bytes_list.value.append(text)
    for name in ("sample_rate_hz", "valid_samples"):
        feature[name].int64_list.value.append(getattr(record, name))
    for name, value in record.attributes._asdict().items():
        feature[name].float_list.value.append(value)
    feature["key"].bytes_list.value.append(record.key.name.encode())
    feature["key_clarity"].float_list.value.append(record.key.clarity)
    return example.SerializeToString(deterministic=True)


def decode(data: bytes) -> Record:
    """Parse a serialized `tf.train.Example`, the inverse of `encode`.

    Raises:
        DecodeError: `data` is not an Example.
        IndexError: A feature is missing.
    """
    feature = Example.FromString(data).features.feature
    texts = {
        name: feature[name].bytes_list.value[0].decode("utf-8", "surrogateescape")
        for name in ("track_id", "genre", "source_sha256", "source_uri")
    }
    return Record(
        audio=np.array(feature["audio"].float_list.value, np.float32),
        sample_rate_hz=feature["sample_rate_hz"].int64_list.value[0],
        valid_samples=feature["valid_samples"].int64_list.value[0],
        attributes=Attributes(*(feature[name].float_list.value[0] for name in Attributes._fields)),
        key=Key(feature["key"].bytes_list.value[0].decode(), feature["key_clarity"].float_list.value[0]),
        **texts,
    )


def _varint(value: int) -> bytes:
    """Encode a number as a base-128 varint of the protobuf wire format."""
    encoded = bytearray()
    while value > 0x7F:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
