import io

import numpy as np
import pytest
import tensorflow as tf

from preprocessing.dataset import example, tfrecord

RECORD = example.Record(
    audio=np.linspace(-1, 1, 90_001, dtype=np.float32),
    track_id="jazz.00018",
    genre="jazz",
    sample_rate_hz=3_000,
    valid_samples=90_001,
    source_sha256="ab" * 32,
    source_uri="gs://music/jazz/jazz.00018.au",
    attributes=example.Attributes(loudness_db=-17.5, centroid_hz=431.25, tempo_bpm=120.0, beat_clarity=0.5),
    key=example.Key("A minor", 0.25),
)


def test_decoding_an_encoded_record_returns_the_record():
    decoded = example.decode(example.encode(RECORD))
    np.testing.assert_array_equal(decoded.audio, RECORD.audio)
    assert decoded[1:] == RECORD[1:]


def test_tensorflow_reads_our_records(tmp_path):
    path = tmp_path / "clips.tfrecord"
    path.write_bytes(2 * tfrecord.frame(example.encode(RECORD)))
    serialized = list(tf.data.TFRecordDataset(str(path)))  # verifies the checksums
    assert len(serialized) == 2
    features = {
        "audio": tf.io.FixedLenFeature([90_001], tf.float32),
        "track_id": tf.io.FixedLenFeature([], tf.string),
        "valid_samples": tf.io.FixedLenFeature([], tf.int64),
        "centroid_hz": tf.io.FixedLenFeature([], tf.float32),
    }
    parsed = tf.io.parse_single_example(serialized[0], features)
    np.testing.assert_array_equal(parsed["audio"], RECORD.audio)
    assert parsed["track_id"] == b"jazz.00018"
    assert parsed["valid_samples"] == 90_001
    assert parsed["centroid_hz"] == 431.25


def test_records_written_by_tensorflow_are_read(tmp_path):
    path = str(tmp_path / "clips.tfrecord")
    message = tf.train.Example.FromString(example.encode(RECORD))
    with tf.io.TFRecordWriter(path) as writer:
        writer.write(message.SerializeToString())
    with open(path, "rb") as stream:  # noqa: PTH123 (a binary stream as Beam provides it)
        (payload,) = tfrecord.read_frames(stream)
    assert example.decode(payload).source_uri == RECORD.source_uri


def test_a_path_that_is_not_valid_utf_8_is_kept():
    uri = b"/music/caf\xe9/caf\xe9.1.wav".decode("utf-8", "surrogateescape")
    assert example.decode(example.encode(RECORD._replace(source_uri=uri))).source_uri == uri


@pytest.mark.parametrize("corrupt", [lambda d: d[:-3], lambda d: d[:5], lambda d: d[:40] + b"!" + d[41:]])
def test_a_truncated_or_changed_record_is_an_error(corrupt):
    framed = tfrecord.frame(example.encode(RECORD))
    with pytest.raises(tfrecord.CorruptRecordError):
        list(tfrecord.read_frames(io.BytesIO(framed + corrupt(framed))))
