import io

import numpy as np
import pytest
from support.inputs.audio_bytes import ONE_SECOND, decode, encode, noise, rejection_reason, tone
from support.inputs.ffmpeg_files import decode_with_ffmpeg, encode_with_ffmpeg, silent_video

from preprocessing.audio.decode import decode_clips
from preprocessing.options import AudioFormat

RATE_HZ = 44_100
WHOLE = AudioFormat(RATE_HZ, 4.0, 4 * RATE_HZ, min_secs=0.25)  # without resampling
MUSIC = np.stack([tone(2.0, RATE_HZ), 0.5 * tone(2.0, RATE_HZ, hz=1_000.0)], axis=1) * 0.8
LOSSY = [
    ("aac", "ipod"),
    ("aac", "adts"),
    ("aac", "mpegts"),
    ("aac", "flv"),
    ("aac", "matroska"),
    ("ac3", "ac3"),
    ("ac3", "spdif"),
    ("eac3", "eac3"),
    ("mp2", "mpeg"),
    ("mp2", "avi"),
]
LOSSLESS = [
    ("alac", "ipod"),
    ("pcm_s16be", "caf"),
    ("pcm_s16le", "mov"),
    ("pcm_s16le", "voc"),
    ("pcm_s24le", "matroska"),
    ("tta", "tta"),
    ("wavpack", "wv"),
]


def waveform_of(data):
    (clip,) = decode(data, WHOLE)
    return clip.waveform[: clip.valid_samples]


@pytest.mark.parametrize(("codec", "container"), [*LOSSY, *LOSSLESS])
def test_a_format_that_libsndfile_does_not_read_decodes_as_with_ffmpeg_alone(codec, container):
    data = encode_with_ffmpeg(MUSIC, RATE_HZ, codec, container)
    waveform = waveform_of(data)
    expected = decode_with_ffmpeg(data)
    assert len(waveform) == len(expected) >= 2 * RATE_HZ - 1_152
    np.testing.assert_allclose(waveform, expected, rtol=0, atol=1e-6)
    power_db = 10 * np.log10(np.mean(np.square(waveform)) / np.mean(np.square(MUSIC.mean(axis=1))))
    assert abs(power_db) < 0.5


def test_tags_that_are_not_utf_8_are_no_error():
    data = encode_with_ffmpeg(MUSIC, RATE_HZ, "aac", "ipod")
    assert b"Lavf" in data  # the tag that names the encoder
    np.testing.assert_array_equal(waveform_of(data.replace(b"Lavf", b"\xff\xfe\xf0f")), waveform_of(data))


@pytest.mark.parametrize(("codec", "container"), LOSSLESS)
def test_a_lossless_format_gives_the_samples_that_were_written(codec, container):
    waveform = waveform_of(encode_with_ffmpeg(MUSIC, RATE_HZ, codec, container))
    expected = (np.round(MUSIC * 32_767) / 32_768).mean(axis=1)
    np.testing.assert_allclose(waveform, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("codec", "container", "channels"),
    [
        ("aac", "ipod", 6),
        ("aac", "ipod", 8),
        ("wavpack", "wv", 8),
        ("wavpack", "wv", 16),
        ("pcm_s24le", "matroska", 8),
        ("pcm_f64le", "matroska", 16),
    ],
)
def test_all_channels_of_surround_sound_are_read(codec, container, channels):
    music = np.stack([tone(0.5, RATE_HZ, hz=200.0 * (1 + channel)) for channel in range(channels)], axis=1)
    data = encode_with_ffmpeg(music, RATE_HZ, codec, container)
    np.testing.assert_allclose(waveform_of(data), decode_with_ffmpeg(data), rtol=0, atol=1e-6)


@pytest.mark.parametrize("fraction", [0.4, 0.75])
@pytest.mark.parametrize(("codec", "container"), [("aac", "adts"), ("ac3", "ac3"), ("mp2", "mpeg")])
def test_of_a_file_that_is_cut_off_the_rest_is_read(codec, container, fraction):
    data = encode_with_ffmpeg(MUSIC, RATE_HZ, codec, container)
    assert len(waveform_of(data[: int(fraction * len(data))])) == pytest.approx(
        fraction * 2 * RATE_HZ, rel=0.3
    )


@pytest.mark.parametrize(
    ("codec", "container"), [("aac", "adts"), ("ac3", "ac3"), ("alac", "ipod"), ("pcm_s16le", "matroska")]
)
def test_what_cannot_be_decoded_is_reported_and_the_rest_read(codec, container):
    data = bytearray(encode_with_ffmpeg(noise(3.0, RATE_HZ), RATE_HZ, codec, container))
    middle = len(data) // 2
    data[middle : middle + 2_000] = np.random.default_rng(0).bytes(2_000)
    losses = []
    (clip,) = decode_clips(io.BytesIO(bytes(data)), WHOLE, losses.append)
    assert clip.valid_samples > 1.0 * RATE_HZ
    assert losses


@pytest.mark.parametrize(
    "content",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nm=audio 5004 RTP/AVP 0\n",
        b"<!doctype html><html>" + 4_000 * b"<p>not found</p>",
        b"%PDF-1.4\n" + np.random.default_rng(0).bytes(50_000),
        b"\xff\xd8\xff\xe0" + np.random.default_rng(1).bytes(100_000),
        *(np.random.default_rng(seed).bytes(100_000) for seed in range(4)),
    ],
)
def test_text_images_and_random_bytes_are_no_audio(content):
    assert rejection_reason(content) == "not_audio"


@pytest.mark.parametrize(
    ("codec", "container"), [("aac", "mp4"), ("mp2", "avi"), ("aac", "matroska"), ("aac", "flv")]
)
def test_of_a_video_the_sound_is_read(codec, container):
    data = encode_with_ffmpeg(MUSIC, RATE_HZ, codec, container, has_video=container != "flv")
    losses = []
    (clip,) = decode_clips(io.BytesIO(data), WHOLE, losses.append)
    np.testing.assert_allclose(
        clip.waveform[: clip.valid_samples], decode_with_ffmpeg(data), rtol=0, atol=1e-6
    )
    assert losses == []


@pytest.mark.parametrize("container", ["mp4", "avi", "matroska"])
def test_a_video_without_sound_has_no_samples(container):
    assert rejection_reason(silent_video(container), ONE_SECOND) == "no_samples"


def test_an_encrypted_file_is_named_as_such(capfd):
    data = encode_with_ffmpeg(MUSIC, RATE_HZ, "aac", "ipod").replace(b"mp4a", b"drms")
    with pytest.raises(Exception, match="encrypted"):
        decode(data)
    assert capfd.readouterr() == ("", "")


def test_bits_of_another_codec_in_a_wav_file_are_decoded_not_played():
    bursts = encode_with_ffmpeg(MUSIC, RATE_HZ, "ac3", "spdif")
    stereo = np.frombuffer(bursts[: len(bursts) // 4 * 4], "<i2").reshape(-1, 2)
    data = encode(stereo, RATE_HZ)
    assert np.sqrt(np.mean(np.square(waveform_of(data)))) == pytest.approx(
        np.sqrt(np.mean(np.square(MUSIC.mean(axis=1)))), rel=0.1
    )


def test_a_square_wave_at_full_scale_is_no_bitstream():
    square = np.where(np.arange(RATE_HZ) % 100 < 50, 32_766, -32_767).astype(np.int16)
    (clip,) = decode(encode(square, RATE_HZ), WHOLE)
    assert clip.valid_samples == RATE_HZ


def secs_of(data):
    clips = decode(data, AudioFormat(3_000, 1.0, 3_000, hop_secs=1.0, min_secs=0.5))
    return len(clips)


def test_mp2_files_of_other_rates_that_were_joined_are_read_to_their_end():
    parts = [
        encode_with_ffmpeg(noise(3.0, rate_hz, 2), rate_hz, "mp2", "mp2")
        for rate_hz in (44_100, 48_000, 44_100)
    ]
    assert secs_of(b"".join(parts)) == 9


def test_mp3_with_a_variable_bit_rate_in_a_wav_file_is_read_to_its_end():
    quiet_then_loud = np.concatenate([0.001 * noise(3.0, 44_100, 2), noise(3.0, 44_100, 2)])
    assert secs_of(encode_with_ffmpeg(quiet_then_loud, 44_100, "mp3", "wav", options={"q": "9"})) == 6


@pytest.mark.parametrize(
    ("codec", "container"),
    [("aac", "ipod"), ("alac", "ipod"), ("aac", "matroska"), ("ac3", "ac3"), ("wavpack", "wv")],
)
def test_a_tag_before_another_format_does_not_hide_it(codec, container):
    data = encode_with_ffmpeg(noise(3.0, 44_100, 2), 44_100, codec, container)
    tag = b"ID3\x04\0\0\0\0\x02\x05" + bytes(261)
    assert secs_of(tag + data) == secs_of(data) == 3


@pytest.mark.parametrize(("codec", "container"), [("aac", "ipod"), ("alac", "ipod"), ("tta", "tta")])
def test_files_that_were_joined_are_all_read(codec, container):
    parts = [encode_with_ffmpeg(tone(3.0, 44_100, hz, 2), 44_100, codec, container) for hz in (300.0, 600.0)]
    assert secs_of(b"".join(parts)) == 6
