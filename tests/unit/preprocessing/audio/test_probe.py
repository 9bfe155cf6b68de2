import io
import struct

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from preprocessing.audio.headers.header import FileBytes, Header
from preprocessing.audio.headers.probe import read_header

FRAMES = 2_000
PLACEHOLDERS = (0, 0x7FFFF000, 0x7FFFFF00, 0xFFFFFFFF)


def encode(kind, subtype, channels=2, rate_hz=8_000, frames=FRAMES, endian=None):
    stream = io.BytesIO()
    noise = 0.1 * np.random.default_rng(0).standard_normal((frames, channels))
    soundfile.write(stream, noise, rate_hz, format=kind, subtype=subtype, endian=endian)
    return stream.getvalue()


def header_of(data):
    return read_header(FileBytes(io.BytesIO(data)))


def patch_number(data, offset, layout, value):
    changed = bytearray(data)
    struct.pack_into(layout, changed, offset, value)
    return bytes(changed)


@pytest.mark.parametrize(
    ("kind", "subtype", "container", "frame_bytes"),
    [
        ("WAV", "PCM_U8", "WAV", 2),
        ("WAV", "PCM_24", "WAV", 6),
        ("WAV", "DOUBLE", "WAV", 16),
        ("WAV", "ULAW", "WAV", 2),
        ("WAVEX", "PCM_16", "WAV", 4),
        ("RF64", "PCM_32", "RF64", 8),
        ("W64", "FLOAT", "W64", 8),
        ("AU", "PCM_16", "AU", 4),
        ("AU", "ALAW", "AU", 2),
        ("AIFF", "PCM_24", "AIFF", 6),
        ("AIFF", "FLOAT", "AIFC", 8),
    ],
)
@pytest.mark.parametrize("endian", ["FILE", "BIG", "LITTLE"])
def test_the_header_of_an_uncompressed_file_is_read_completely(kind, subtype, container, frame_bytes, endian):
    if kind not in {"WAV", "AU", "AIFF"} or subtype in {"ULAW", "ALAW", "FLOAT"}:
        endian = "FILE"  # the only byte order of that format
    data = encode(kind, subtype, endian=endian)
    header = header_of(data)
    # Big-endian WAV is RIFX; only AIFC declares a byte order.
    assert header.container == ("AIFC" if kind == "AIFF" and endian != "FILE" else container)
    assert (header.channels, header.sample_rate_hz, header.frames) == (2, 8_000, FRAMES)
    assert header.frame_bytes == frame_bytes
    assert (header.decodable, header.is_certain, header.missing_chunk) == (True, True, "")
    assert header.data_bytes == FRAMES * frame_bytes
    assert header.data_offset + header.data_bytes == header.body_end <= len(data)
    assert_equal_samples(data, decoder_input(data, header))


def decoder_input(data, header):
    """Return the bytes that the decoder reads."""
    return header.decoder_head + data[header.body_start : header.body_end]


def assert_equal_samples(data, other):
    (expected, expected_rate_hz), (samples, rate_hz) = (
        soundfile.read(io.BytesIO(file)) for file in (data, other)
    )
    assert rate_hz == expected_rate_hz
    np.testing.assert_array_equal(samples, expected)


@pytest.mark.parametrize("subtype", ["IMA_ADPCM", "MS_ADPCM"])
def test_the_header_of_a_compressed_wav_file_gives_the_bytes_but_not_the_frames(subtype):
    header = header_of(encode("WAV", subtype))
    assert (header.frames, header.frame_bytes) == (None, None)
    assert header.data_bytes > 0


@pytest.mark.parametrize(
    ("kind", "subtype", "expected"),
    [
        ("OGG", "VORBIS", Header("Ogg", "Vorbis", channels=2, sample_rate_hz=8_000)),
        ("OGG", "OPUS", Header("Ogg", "Opus", channels=2)),
        ("MP3", "MPEG_LAYER_III", Header("MP3")),
        ("CAF", "PCM_16", Header("CAF", decodable=False)),
        ("SVX", "PCM_16", Header("16SV", decodable=False)),
    ],
)
def test_the_headers_of_other_containers_are_read(kind, subtype, expected):
    assert header_of(encode(kind, subtype, channels=expected.channels or 1)) == expected


def test_the_decoder_does_not_see_the_number_of_frames_of_a_flac_file():
    data = encode("FLAC", "PCM_24")
    header = header_of(data)
    assert (header.channels, header.sample_rate_hz, header.frames) == (2, 8_000, FRAMES)
    assert header.body_start == len(header.decoder_head)
    assert header.decoder_head == patch_number(data, 22, ">I", 0)[: header.body_start]


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\x20ftypM4A \0\0\0\0",
        bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c"),
        bytes.fromhex("1a45dfa3") + b"\x9fB\x86\x81\x01webm",
        b"wvpk\x20\0\0\0",
        b"MAC \x96\x0f\0\0",
        bytes.fromhex("fff15080") + bytes(20),
        b"#!AMR\n",
        b"DSD \x1c\0\0\0",
        b"FRM8\0\0\0\0\0\0\0\0DSD ",
        b"MThd\0\0\0\x06",
        b"RIFF\0\0\0\0AVI LIST",
        patch_number(encode("WAV", "PCM_16"), 20, "<H", 0x161),  # Windows Media
        patch_number(encode("WAV", "PCM_16"), 20, "<H", 0x38),  # NMS ADPCM, see WAV_CODECS
        patch_number(encode("AU", "PCM_16"), 12, ">I", 24),  # G.722
        encode("AIFF", "ULAW").replace(b"ulaw", b"QDM2"),
        encode("OGG", "VORBIS").replace(b"\x01vorbis", b"Speex  "),
    ],
)
def test_audio_that_cannot_be_decoded_is_recognized(data):
    assert header_of(data).decodable is False


@pytest.mark.parametrize(
    "data", [b"", b"RI", b"a sentence " * 9, b"\x89PNG\r\n\x1a\n" + bytes(99), bytes(999), b"\xff" * 3]
)
def test_a_file_that_is_not_audio_has_no_header(data):
    assert header_of(data) is None


def test_text_with_a_byte_order_mark_is_not_certainly_an_mp3_file():
    assert header_of(("a sentence " * 99).encode("utf-16")).is_certain is False


def test_tags_before_the_file_are_skipped():
    tag = b"ID3\x04\0\0\0\0\x02\x05" + bytes(261)
    plain = header_of(encode("WAV", "PCM_16"))
    tagged = header_of(tag + encode("WAV", "PCM_16"))
    assert tagged.body_start == plain.body_start + len(tag)
    assert tagged.data_offset == plain.data_offset + len(tag)
    assert tagged.file_bytes == plain.file_bytes + len(tag)
    assert header_of(b"ID3\x04\0\0\x7f\x7f\x7f\x7f" + bytes(99)).container == "MP3"


@pytest.mark.parametrize("size", PLACEHOLDERS)
@pytest.mark.parametrize(
    ("kind", "offset", "layout"), [("WAV", 40, "<I"), ("AU", 8, ">I"), ("AIFF", 22, ">I"), ("RF64", 28, "<Q")]
)
def test_a_placeholder_for_an_unknown_size_is_not_taken_for_a_size(kind, offset, layout, size):
    if layout == "<Q":
        size = {0: 0, 0xFFFFFFFF: 2**64 - 1}.get(size, 2**63 - 1)
    data = patch_number(encode(kind, "PCM_16"), offset, layout, size)
    header = header_of(data)
    assert header.frames is None
    assert header.data_bytes is None or kind == "AIFF"  # in AIFF the number of frames was patched
    assert_equal_samples(encode(kind, "PCM_16"), decoder_input(data, header))


def test_a_data_chunk_of_size_zero_before_another_chunk_is_empty():
    empty = patch_number(encode("WAV", "PCM_16")[:44], 40, "<I", 0)
    assert header_of(empty + b"LIST\x04\0\0\0INFO").data_bytes == 0
    assert header_of(empty + b"LIST\xff\xff\xff\0INFO").data_bytes is None


@pytest.mark.parametrize(("kind", "subtype"), [("WAV", "FLOAT"), ("RF64", "PCM_16"), ("AIFF", "ULAW")])
def test_the_decoder_sees_only_the_two_chunks_that_matter(kind, subtype):
    data = encode(kind, subtype)
    order = ">" if kind == "AIFF" else "<"
    lists = b"".join(b"LIST" + struct.pack(f"{order}I", size) + bytes(size) for size in (4, 200_000))
    false_sizes = 2 * b"LIST\xf7\xff\xff\xff"
    changed = data[:12] + lists + data[12:] + false_sizes
    decoded_bytes = decoder_input(changed, header_of(changed))
    assert b"LIST" not in decoded_bytes
    assert_equal_samples(data, decoded_bytes)


def test_a_wav_file_of_more_than_4_gib_gets_an_rf64_head():
    class HugeStream(io.BytesIO):
        def seek(self, offset, whence=0):
            return super().seek(offset, whence) + (5 * 2**30 if whence == 2 else 0)

    header = read_header(FileBytes(HugeStream(patch_number(encode("WAV", "PCM_16"), 40, "<I", 0xFFFFFFFF))))
    assert header.decoder_head[:4] == b"RF64"
    assert struct.unpack_from("<Q", header.decoder_head, 28)[0] == 5 * 2**30 + FRAMES * 4


def test_an_mp3_file_of_undeclared_length_gets_an_info_frame_of_unlimited_length():
    data = encode("MP3", "MPEG_LAYER_III", rate_hz=44_100, frames=44_100)
    untagged = data[data.index(b"\xff\xfb", 4) :]
    header = header_of(untagged)
    assert header.decoder_head[:2] == b"\xff\xfb"
    assert b"Info" in header.decoder_head
    assert header.body_start == 0


MAGICS = [
    b"RIFF\0\0\0\0WAVEfmt ",
    b"RF64\0\0\0\0WAVEds64",
    b"FORM\0\0\0\0AIFCCOMM",
    b"FORM\0\0\0\0AIFFSSND",
    encode("W64", "PCM_16")[:48],
    b".snd",
    b"fLaC\0",
    b"OggS" + bytes(22) + b"\1\0OpusHead",
    b"OggS" + bytes(22) + b"\1\0\1vorbis",
    b"ID3\3\0\0\0\0\0\x05",
    b"\xff\xfb\x90\0",
    b"caff",
]


@settings(max_examples=400, derandomize=True, database=None, deadline=None)
@given(st.sampled_from([b"", *MAGICS]), st.binary(max_size=200))
def test_no_content_makes_it_raise(magic, rest):
    header = header_of(magic + rest)
    assert header is None or isinstance(header, Header)


@settings(max_examples=200, derandomize=True, database=None, deadline=None)
@given(
    st.sampled_from(
        [("WAV", "PCM_16"), ("W64", "FLOAT"), ("RF64", "PCM_16"), ("AIFF", "ULAW"), ("AU", "PCM_16")]
    ),
    st.integers(0, 150),
    st.binary(min_size=1, max_size=12),
    st.integers(40, 400),
)
def test_no_change_of_a_valid_header_makes_it_raise(kind, offset, content, length):
    data = encode(*kind, frames=100)
    header = header_of((data[:offset] + content + data[offset + len(content) :])[:length])
    assert header is None or len(header.decoder_head) < 400


def test_the_number_of_chunks_that_are_read_is_limited():
    class CountingStream(io.BytesIO):
        seeks = 0

        def seek(self, *args):
            self.seeks += 1
            return super().seek(*args)

    stream = CountingStream(b"RIFF\0\0\0\0WAVE" + b"JUNK\0\0\0\0" * 100_000)
    assert read_header(FileBytes(stream)).channels is None
    assert stream.seeks < 1_000


@pytest.mark.parametrize("bits", [0, 1, 33, 255, 65_535])
def test_an_absurd_number_of_bits_raises_no_exception(bits):
    assert header_of(patch_number(encode("WAV", "PCM_16"), 34, "<H", bits)).channels == 2
    assert header_of(patch_number(encode("W64", "PCM_16"), 78, "<H", bits)).channels == 2
