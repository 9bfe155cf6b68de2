"""The studio in a real browser: Debian's Chromium, which `apt-get install chromium` brings."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from playwright.sync_api import expect, sync_playwright
from support.tiny_corpus import WAVE, without_figures_and_music

import trainer
from preprocessing.errors import USAGE
from preprocessing.html.media import pcm16
from trainer.__main__ import main

pytestmark = pytest.mark.long

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TIMEOUT_MS = 60_000
START_SECS = 60.0  # 15 on a machine that does nothing else


@pytest.fixture(scope="module")
def run(dataset, tmp_path_factory):
    run = tmp_path_factory.mktemp("studio") / "run"
    with without_figures_and_music():
        trainer.train(dataset, run, **WAVE, epochs=1)
    return run


@pytest.fixture(scope="module")
def takes(run):
    return run.parent / "takes"


@pytest.fixture(scope="module")
def url(run, takes):
    """A studio in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "trainer",
        "studio",
        "--run",
        str(run),
        "--output",
        str(takes),
        "--port",
        "0",
    ]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    errors = run.parent / "stderr"
    with (
        errors.open("w") as stderr,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=environment
        ) as process,
    ):
        try:
            started = time.monotonic()
            line = process.stdout.readline()
            assert time.monotonic() - started < START_SECS
            assert line.startswith("the studio is at http://127.0.0.1:"), line + errors.read_text()
            yield re.search(r"http://\S+(?=/;|;)", line)[0].rstrip("/")
        finally:
            process.terminate()
        assert process.wait(timeout=30) == 0


@pytest.fixture(scope="module")
def browser():
    assert CHROMIUM, "this test needs Chromium: apt-get install chromium"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser, url):
    page = browser.new_page(viewport={"width": 1400, "height": 1000}, accept_downloads=True)
    page.set_default_timeout(TIMEOUT_MS)
    expect.set_options(timeout=TIMEOUT_MS)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(url)
    yield page
    elsewhere = [address for address in requests if not address.startswith((url, "data:", "blob:"))]
    assert elsewhere == []  # the page loads nothing from other machines
    page.close()


def open_tab(page, name):
    page.get_by_role("tab", name=name).click()


def players(page, area):
    clips = page.locator(f"#{area} audio")
    expect(clips.first).to_be_visible()
    return clips


def played_samples(page, audio):
    """Let the browser decode what a player plays."""
    return np.array(
        audio.evaluate(
            """async element => {
                const content = await (await fetch(element.src)).arrayBuffer();
                const decoded = await new OfflineAudioContext(1, 1, 44100).decodeAudioData(content);
                return Array.from(decoded.getChannelData(0));
            }"""
        )
    )


def test_new_music_is_heard_downloaded_and_the_same_as_the_apis(page, run, takes):
    before = {path.parent for path in takes.glob("*/recipe.json")}
    page.locator("#generate").click()
    clips = players(page, "new-music")
    expect(clips).to_have_count(4)
    assert np.abs(played_samples(page, clips.first)).max() > 0.001
    with page.expect_download() as download:
        page.locator("#new-music .download").nth(2).click()
    samples, rate_hz = soundfile.read(io.BytesIO(Path(download.value.path()).read_bytes()), dtype="int16")
    generator = trainer.load(run)
    genres = [generator.genres[index % 2] for index in range(4)]
    expected = generator.sample(4, genre=genres)[2]
    np.testing.assert_array_equal(samples, pcm16(expected, rate_hz, rate_hz))
    (take,) = {path.parent for path in takes.glob("*/recipe.json")} - before
    assert main(["generate", "--like", str(take), "--output", str(takes.parent / "again")]) == 0
    (again,) = (takes.parent / "again").iterdir()
    assert (again / "prior/02.wav").read_bytes() == (take / "prior/02.wav").read_bytes()


def test_the_key_of_new_music_is_chosen_from_those_of_the_training_clips(page, run, takes):
    before = {*takes.glob("*/recipe.json")}
    key = trainer.load(run).metadata.keys[-1]
    page.get_by_label("Key").click()
    page.get_by_role("option", name=key, exact=True).click()
    page.locator("#generate").click()
    expect(players(page, "new-music")).to_have_count(4)
    (recipe,) = {*takes.glob("*/recipe.json")} - before
    assert json.loads(recipe.read_text())["options"]["key"] == key


def test_an_uploaded_recording_is_varied(page, tmp_path):
    recording = tmp_path / "whistle.wav"
    soundfile.write(recording, 0.3 * np.sin(np.arange(16_000) / 7), 8_000)
    open_tab(page, "From a clip")
    page.locator("#upload input[type=file]").first.set_input_files(str(recording))
    expect(page.locator("#upload")).not_to_contain_text("Drop Audio Here")
    page.locator("#generate-from").click()
    clips = players(page, "from-clip")
    expect(page.locator("#from-clip figcaption").first).to_contain_text("whistle.wav")
    assert np.abs(played_samples(page, clips.first)).max() > 0.001


def test_an_error_is_the_programs_own_sentence_and_the_page_goes_on(page, tmp_path):
    recording = tmp_path / "blip.wav"
    soundfile.write(recording, 0.3 * np.sin(np.arange(40)), 8_000)
    open_tab(page, "From a clip")
    page.locator("#upload input[type=file]").first.set_input_files(str(recording))
    expect(page.locator("#upload")).not_to_contain_text("Drop Audio Here")
    page.locator("#generate-from").click()
    expect(page.get_by_text("and the model needs")).to_be_visible()
    open_tab(page, "New music")
    page.locator("#generate").click()
    clips = players(page, "new-music")
    assert np.abs(played_samples(page, clips.first)).max() > 0.001


def test_a_click_on_the_map_plays_the_nearest_clip_or_makes_one(page):
    open_tab(page, "Map")
    picture = page.locator("#map img").first
    expect(picture).to_be_visible()
    picture.click(position={"x": 60, "y": 60})
    clips = players(page, "map-clips")
    expect(clips).to_have_count(1)
    page.get_by_label("makes one there").check()
    picture.click(position={"x": 90, "y": 90})
    expect(page.locator("#map-clips audio")).to_have_count(2)
    assert np.abs(played_samples(page, clips.first)).max() > 0.001


def test_a_star_brings_a_take_to_the_top(page, takes):
    page.locator("#generate").click()
    players(page, "new-music")
    open_tab(page, "Takes")
    page.get_by_label("Left take").click()
    page.get_by_role("option").last.click()
    oldest = min(path.parent for path in takes.glob("*/recipe.json"))
    expect(page.locator("#clips-left h3").first).to_have_text(oldest.name)
    page.locator("#star-left input").check()
    page.get_by_label("Right take").click()
    expect(page.get_by_role("option").first).to_contain_text(f"\N{BLACK STAR} {oldest.name}")
    assert (oldest / "starred").exists()


def test_votes_of_a_blind_test_are_kept_and_summarized(page, run):
    open_tab(page, "Listening test")
    page.get_by_label("Your name or initials").fill("ab")
    page.locator("#start-test").click()
    question = page.locator("#question")
    number = 0
    while True:
        number += 1
        expect(question).to_contain_text(re.compile(rf"{number} of \d+|Thank you"))
        if "Thank you" in question.inner_text():
            break
        hidden = page.locator("#blind-clips").inner_html()
        assert "anchor" not in hidden and "real clip" not in hidden and "hidden reference" not in hidden
        if "reference" not in question.inner_text():
            page.get_by_label("A", exact=True).check()
        page.locator("#vote").click()
    expect(page.locator("#results")).to_contain_text("1 listener(s)")
    votes = [json.loads(line) for line in (run / "listening.jsonl").read_text().splitlines()]
    assert len(votes) == number - 1
    assert {vote["kind"] for vote in votes} == {"rating", "pair"}
    assert all(vote["choice"] for vote in votes if vote["kind"] == "pair")


def test_a_page_for_other_machines_needs_a_password(run, tmp_path, capsys):
    flags = ["studio", "--run", str(run), "--host", "0.0.0.0"]
    assert main(flags) == USAGE
    assert "protect the page with --auth" in capsys.readouterr().err
    (tmp_path / "users").write_text("somebody\n")
    assert main([*flags, "--auth", str(tmp_path / "users")]) == USAGE
    assert "must have a line NAME:PASSWORD" in capsys.readouterr().err
