"""The page of ``digits web`` in a real Chromium, whose microphone plays recordings of FSDD in a loop."""

import base64
import contextlib
import csv
import os
import re
import shutil
import signal
import zipfile
from collections.abc import Callable, Iterator
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy
import pytest
import soundfile
from support import REPOSITORY, require, start, wait_until

from digits import audio
from digits.corpora.corpus import WORDS
from digits.corpora.folder import read_folder
from digits.live.voices import Voices

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, WebSocketRoute

    Launch = Callable[..., Browser]

pytestmark = [pytest.mark.browser, pytest.mark.fsdd, pytest.mark.xdist_group("browser")]

SAID = [3, 1, 4, 0, 5, 9, 2, 6, 8, 7]
SPEAKERS = ("theo", "yweweler", "jackson", "george", "nicolas", "lucas")
RATE = 48_000
PAUSE_S = 0.5
FLAGS = [
    "--no-sandbox",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-gpu",
    "--disable-sync",
    "--no-first-run",
]
FAKE_MICROPHONE, PERMISSION = "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"
WIDE, PHONE, SMALL = (1280, 800), (390, 844), (320, 568)
LOOKS: list[tuple[Literal["light", "dark"], tuple[int, int]]] = [("light", WIDE), ("dark", WIDE), ("light", PHONE), ("dark", PHONE)]


def recording(digit: int, speaker: str, take: int) -> Path:
    """A clip of FSDD; takes 0 to 4 are its test split."""
    return Path(os.environ["FSDD_ROOT"]) / "recordings" / f"{digit}_{speaker}_{take}.wav"


def write_words(path: Path, digits: list[int]) -> Path:
    """Recordings of several speakers, with pauses between them and a faint noise floor."""
    pause = numpy.zeros(round(PAUSE_S * RATE))
    parts: list[numpy.ndarray] = [pause]
    for n, digit in enumerate(digits):
        clip = recording(digit, SPEAKERS[n % len(SPEAKERS)], n % 5)
        parts += [audio.resample(*audio.read(clip), RATE), pause]
    sound = numpy.concatenate(parts)
    soundfile.write(path, sound + 2e-4 * numpy.random.default_rng(0).standard_normal(len(sound)), RATE)
    return path


@contextlib.contextmanager
def serving(voices: Path, port: int | str = 0) -> Iterator[str]:
    """The address of ``digits web`` in a process of its own, which is interrupted in the end."""
    server = start("web", f"port={port}", "ckpt_path=pretrained", f"voices={voices}")
    try:
        assert server.stdout
        found = re.match(r"open (http://localhost:\d+) in a browser", server.stdout.readline())
        assert found, server.communicate()
        yield found[1]
    finally:
        server.send_signal(signal.SIGINT)
        _, complaints = server.communicate(timeout=20)
    assert complaints == "model: pretrained\nstopped\n"


@pytest.fixture(scope="module")
def launch() -> "Iterator[Launch]":
    """``launch(FLAG, ...)`` starts a Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        yield lambda *flags: playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*FLAGS, *flags])


@pytest.fixture(scope="module")
def browser(launch: "Launch", tmp_path_factory: pytest.TempPathFactory) -> "Browser":
    """A Chromium with a microphone that says :data:`SAID` again and again, from the beginning each time it is opened."""
    path = write_words(tmp_path_factory.mktemp("microphone") / "said.wav", SAID)
    return launch(PERMISSION, FAKE_MICROPHONE, f"--use-file-for-fake-audio-capture={path}")


@pytest.fixture(scope="module")
def voices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The server's folder of voices."""
    return tmp_path_factory.mktemp("served") / "voices"


@pytest.fixture(scope="module")
def address(voices: Path) -> Iterator[str]:
    """Of a server that most tests share."""
    with serving(voices) as address:
        yield address


@pytest.fixture
def page(browser: "Browser", address: str) -> "Iterator[Page]":
    """The page, just opened; in the end, none of its script's errors may have gone uncaught."""
    uncaught: list[str] = []
    with browser.new_context(viewport=size(WIDE)) as context:
        page = context.new_page()
        page.on("pageerror", lambda error: uncaught.append(str(error)))
        visit(page, address)
        yield page
    assert not uncaught


def size(viewport: tuple[int, int]) -> Any:
    return dict(zip(("width", "height"), viewport, strict=True))


def visit(page: "Page", address: str) -> None:
    page.goto(address)
    page.locator("#model", has_text="Model: pretrained").wait_for()  # the last thing that its script does at its start


def says(page: "Page", text: str) -> None:
    """Wait until the page says a sentence."""
    page.locator("#status", has_text=text).wait_for()


def wait_for_rows(page: "Page", number: int) -> None:
    """Wait until so many sounds have been heard."""
    page.locator("#rows tr").nth(number - 1).wait_for()


def next_is(page: "Page", result: str) -> None:
    """Wait until a sound has this result that comes from now on."""
    page.click("#clear")
    page.locator("#rows tr:first-child", has_text=result).wait_for()


def history(page: "Page") -> list[int | str]:
    """What has been heard, oldest first: digits that were accepted, and the reasons of the other sounds."""
    rows = [row.locator("td").all_inner_texts() for row in reversed(page.locator("#rows tr").all())]
    return [int(digit) if result == "accepted" else result for _, digit, _, result, _ in rows]


def hear_file(page: "Page", path: Path, sounds: int) -> None:
    """Choose a recording and wait for what is heard in it."""
    page.set_input_files("#file", path)
    says(page, f"{path.name}: {sounds} sounds.")


def saved(page: "Page", button: str, path: Path) -> Path:
    """What a button downloads."""
    with page.expect_download() as download:
        page.click(button)
    download.value.save_as(path)
    return path


# ---- listening


def test_ten_people_s_digits_are_heard_shown_and_can_be_downloaded(page: "Page", tmp_path: Path) -> None:
    page.click("#listen")
    says(page, "Listening.")
    page.locator("#level.loud[style*='scaleX(0.']").wait_for()
    floor, word = page.evaluate(
        "[floor, word].map((m) => m.style.visibility === 'visible' && parseFloat(getComputedStyle(m).left))"
    )
    assert 0 < floor < word
    assert re.fullmatch(r"-\d+ dB", page.inner_text("#db"))
    wait_for_rows(page, len(SAID))
    page.click("#listen")
    says(page, "Stopped. Press Listen to go on.")

    heard = history(page)
    in_order = sum(block.size for block in SequenceMatcher(None, heard, SAID, autojunk=False).get_matching_blocks())
    assert in_order >= 9, heard
    assert len(heard) == len(SAID)
    digits = [digit for digit in heard if isinstance(digit, int)]
    assert page.inner_text("#counts") == f"{len(digits)} accepted, {len(heard) - len(digits)} rejected"
    bars = page.evaluate("[...document.querySelectorAll('.bar')].map((bar) => Number(bar.style.transform.slice(7, -1)))")
    assert sum(bars) == pytest.approx(1, abs=0.01)
    assert sum(int(text) for text in page.locator(".percent").all_inner_texts()) == pytest.approx(100, abs=5)
    if isinstance(heard[-1], int):
        assert page.inner_text("#digit") == str(heard[-1]) == str(numpy.argmax(bars))
        assert page.inner_text("#said").startswith(WORDS[heard[-1]])
    pixels = page.evaluate("[...picture.getContext('2d').getImageData(0, 0, picture.width, picture.height).data]")
    assert len({tuple(pixels[n : n + 4]) for n in range(0, len(pixels), 4)}) > 100

    with saved(page, "#csv", tmp_path / "heard.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["digit"]) if row["accepted"] == "true" else row["reason"] for row in rows] == heard
    assert {row["source"] for row in rows} == {"microphone"}
    assert all(float(before["end_s"]) < float(after["start_s"]) for before, after in pairwise(rows))
    page.fill("#speaker", "ann")
    with zipfile.ZipFile(saved(page, "#zip", tmp_path / "recordings.zip")) as archive:
        assert archive.testzip() is None
        archive.extractall(tmp_path / "unpacked")
    clips = read_folder(tmp_path / "unpacked" / "recordings", "mine").clips
    assert sorted((clip.digit, clip.speaker) for clip in clips) == sorted((digit, "ann") for digit in digits)
    waveforms = [audio.read(clip.path) for clip in clips]
    assert all(0.2 < len(waveform) / rate < 1.5 for waveform, rate in waveforms)
    page.click("#clear")
    assert history(page) == []
    assert page.is_disabled("#csv")


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ([PERMISSION], "There is no microphone. Plug one in and press Listen again, or recognise a file."),
        ([FAKE_MICROPHONE], "The browser refuses the microphone. Allow it for this page (the symbol beside the address), then"),
    ],
    ids=["none", "refused"],
)
def test_without_a_microphone_the_page_says_why(launch: "Launch", address: str, flags: list[str], sentence: str) -> None:
    with launch(*flags) as browser:
        page = browser.new_page()
        visit(page, address)
        page.click("#listen")
        says(page, sentence)
        assert page.inner_text("#listen") == "Listen"


def test_where_the_browser_keeps_the_microphone_from_a_page_it_says_what_to_do(page: "Page", address: str) -> None:
    page.add_init_script("Object.defineProperty(navigator, 'mediaDevices', {value: undefined})")
    visit(page, address)
    page.click("#listen")
    says(page, "The browser gives the microphone only to pages on localhost or https.")
    assert page.inner_text("#listen") == "Listen"


def test_a_page_whose_server_goes_and_returns_listens_on_with_its_threshold(page: "Page", tmp_path: Path) -> None:
    with serving(tmp_path) as address:
        visit(page, address)
        page.fill("#threshold", "1")
        page.click("#listen")
        next_is(page, "not sure")
    says(page, "The connection is lost. Trying again…")
    with serving(tmp_path, address.rpartition(":")[2]):
        says(page, "Listening.")
        next_is(page, "not sure")
        page.click("#own")
        next_is(page, "accepted")
        page.click("#listen")


def test_the_threshold_decides_what_is_accepted_while_the_page_listens(page: "Page") -> None:
    own = page.inner_text("#threshold-value")
    page.click("#listen")
    wait_for_rows(page, 1)
    assert history(page)[0] == SAID[0]
    page.fill("#threshold", "1")
    assert page.inner_text("#threshold-value") == "100 %"
    page.click("#clear")
    wait_for_rows(page, 2)
    assert history(page) == ["not sure", "not sure"]
    page.click("#own")
    assert page.inner_text("#threshold-value") == own
    next_is(page, "accepted")


def test_a_page_that_heard_only_silence_says_so_until_a_word_comes(page: "Page") -> None:
    def silent_at_first(socket: "WebSocketRoute") -> None:
        def forward(message: str | bytes) -> None:
            if "ready" in str(message):
                socket.send(message)
                socket.send('{"type": "only_zeros"}')
            elif seen:
                socket.send(message)

        socket.connect_to_server().on_message(forward)

    seen: list[bool] = []
    page.route_web_socket("**/v1/stream?*", silent_at_first)
    page.click("#listen")
    says(page, "Only silence arrives: is the microphone muted, or the wrong one chosen?")
    seen.append(True)
    says(page, "Listening.")
    page.click("#listen")


def test_stopping_while_the_page_is_still_starting_does_no_harm(page: "Page") -> None:
    streams: list[str] = []
    page.on("websocket", lambda socket: streams.append(socket.url))
    for step in ("MediaDevices.prototype.getUserMedia", "AudioWorklet.prototype.addModule", "AudioContext.prototype.resume"):
        page.evaluate(f"""() => {{
          const original = {step};
          {step} = async function (...args) {{
            {step} = original;
            listen.click();
            return original.apply(this, args);
          }};
        }}""")
        page.click("#listen")
        says(page, "Stopped.")
    page.click("#listen")
    next_is(page, "accepted")
    assert page.inner_text("#status") == "Listening."
    assert len(streams) == 1


# ---- files


def test_a_file_s_digits_are_heard_and_what_is_no_recording_is_named(page: "Page", tmp_path: Path) -> None:
    hear_file(page, write_words(tmp_path / "words.wav", SAID[:3]), 3)
    assert history(page) == SAID[:3]
    assert page.locator("#rows tr:last-child td").first.inner_text().startswith("words.wav, 0.")
    (tmp_path / "notes.txt").write_text("no sound\n")
    page.set_input_files("#file", [tmp_path / "notes.txt"])
    says(page, "notes.txt: not readable as audio (")
    assert "trouble" in (page.get_attribute("#status", "class") or "")
    page.fill("#threshold", "1")
    page.set_input_files("#file", [tmp_path / "words.wav"])
    wait_for_rows(page, 6)
    assert history(page)[3:] == 3 * ["not sure"]


def test_files_can_be_dropped_anywhere(page: "Page") -> None:
    content = base64.b64encode(recording(7, "theo", 0).read_bytes()).decode()
    transfer = page.evaluate_handle(
        """(content) => {
          const bytes = Uint8Array.from(atob(content), (c) => c.charCodeAt(0)), transfer = new DataTransfer();
          for (const name of ["one.wav", "two.wav"]) transfer.items.add(new File([bytes], name));
          return transfer;
        }""",
        content,
    )
    page.dispatch_event("h1", "dragover", {"dataTransfer": transfer})
    assert page.get_attribute("body", "class") == "dropping"
    page.dispatch_event("h1", "drop", {"dataTransfer": transfer})
    wait_for_rows(page, 2)
    says(page, "two.wav: one sound.")
    assert page.get_attribute("body", "class") == ""
    assert history(page) == [7, 7]


# ---- voices


def test_a_voice_is_taught_by_answering_questions_and_stopping_forgets_the_answers(page: "Page", voices: Path) -> None:
    page.click("#enroll")
    says(page, "Give the voice a name first: letters and digits.")
    assert page.evaluate("document.activeElement.id") == "name"
    page.fill("#name", "no/name")
    page.click("#enroll")
    assert page.inner_text("#listen") == "Listen"
    page.fill("#name", "ann")
    page.click("#enroll")
    for number in (1, 2):
        page.locator("#question", has_text=re.compile(rf"say \w+ \({number} of 30\)")).wait_for()
    recordings = [path.name for path in voices.glob(".ann.*/*.wav")]
    assert recordings
    assert all(re.fullmatch(r"\d_ann_\d+\.wav", name) for name in recordings)
    assert history(page) == []
    page.click("#listen")
    says(page, "Stopped before the end, so nothing was learnt.")
    assert page.text_content("#question") == ""
    wait_until(lambda: not list(voices.glob(".ann.*")))
    page.click("#listen")
    says(page, "Listening.")
    next_is(page, "accepted")


def test_a_voice_can_be_chosen_and_deleted(page: "Page", voices: Path) -> None:
    for digit in range(10):
        for take in range(3):
            target = voices / "theo" / f"{digit}_theo_{take}.wav"
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(recording(digit, "theo", take), target)
    Voices(voices).teach("theo", "pretrained")
    page.reload()
    page.locator("#voice option[value=theo]").wait_for(state="attached")
    page.select_option("#voice", "theo")
    with page.expect_request("**/v1/recognize?*voice=theo*"):
        page.set_input_files("#file", recording(7, "theo", 4))
    wait_for_rows(page, 1)
    assert history(page) == [7]
    page.once("dialog", lambda dialog: dialog.dismiss())
    page.click("#forget")
    assert (voices / "theo.voice").exists()
    page.once("dialog", lambda dialog: dialog.accept())
    page.click("#forget")
    says(page, "The voice theo and its recordings are deleted.")
    page.locator("#forget").wait_for(state="hidden")
    assert page.locator("#voice option").all_inner_texts() == ["the model as it is"]
    assert not (voices / "theo").exists()


# ---- for everybody


def test_everything_can_be_done_by_keyboard_and_is_told_to_screen_readers(page: "Page") -> None:
    def focused() -> str:
        return page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")

    page.keyboard.press("Tab")
    assert focused() == "listen"
    page.keyboard.press("Space")
    page.locator("#spoken[aria-live=polite]", has_text=WORDS[SAID[0]]).wait_for()
    page.keyboard.press("Space")
    says(page, "Stopped.")
    passed: list[str] = []
    while len(passed) < 20 and (name := focused()) not in ("BODY", "clear"):
        passed.append(name)
        page.keyboard.press("Tab")
        if focused() == "threshold":
            before = page.inner_text("#threshold-value")
            page.keyboard.press("End")
            assert page.inner_text("#threshold-value") == "100 %"
        elif focused() == "own":
            page.keyboard.press("Enter")
            assert page.inner_text("#threshold-value") == before
        elif focused() == "csv":
            with page.expect_download():
                page.keyboard.press("Enter")
    assert passed[:8] == ["listen", "device", "threshold", "own", "file", "voice", "name", "enroll"]
    assert passed[-4:] == ["▶", "csv", "zip", "speaker"]
    assert focused() == "clear"
    page.keyboard.press("Enter")
    assert history(page) == []


def test_axe_finds_no_barriers(page: "Page", tmp_path: Path) -> None:
    axe = Path(os.environ.get("DIGITS_AXE") or REPOSITORY / "node_modules" / "axe-core" / "axe.min.js")
    require(axe.is_file(), "axe-core is not installed, and DIGITS_AXE names no axe.min.js")
    page.evaluate(axe.read_text(encoding="utf-8"))

    def barriers() -> list[tuple[str, int, str, list[str]]]:
        found: list[tuple[str, int, str, list[str]]] = []
        for scheme, viewport in LOOKS:
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            page.set_viewport_size(size(viewport))
            report = page.evaluate("axe.run()")
            assert len(report["passes"]) > 20
            for problem in report["violations"]:
                found.append((scheme, viewport[0], problem["help"], [node["html"] for node in problem["nodes"]]))
        return found

    assert barriers() == []
    hear_file(page, write_words(tmp_path / "words.wav", SAID[:3]), 3)
    assert barriers() == []
    page.click("#listen")
    says(page, "Listening.")
    page.fill("#threshold", "1")
    hear_file(page, tmp_path / "words.wav", 3)
    page.set_input_files("#file", __file__)
    says(page, "test_page.py: not readable")
    assert barriers() == []


def test_the_page_fits_every_screen(page: "Page", tmp_path: Path) -> None:
    long = write_words(tmp_path / f"{40 * 'long'}.wav", SAID[:3])
    hear_file(page, write_words(tmp_path / "words.wav", SAID), len(SAID))
    for scheme, viewport in (*LOOKS, ("dark", SMALL)):
        page.emulate_media(color_scheme=scheme)
        page.set_viewport_size(size(viewport))
        page.screenshot(path=tmp_path / f"{scheme}_{viewport[0]}.png", full_page=True)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), viewport
    hear_file(page, long, 3)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_page_needs_nothing_from_elsewhere_and_its_console_stays_empty(page: "Page", address: str, tmp_path: Path) -> None:
    asked: list[str] = []
    told: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("websocket", lambda socket: asked.append(socket.url.replace("ws:", "http:", 1)))
    page.on("console", lambda message: told.append(message.text))
    visit(page, address)
    page.click("#listen")
    wait_for_rows(page, 1)
    page.click("#listen")
    page.click("#rows button")
    saved(page, "#csv", tmp_path / "heard.csv")
    saved(page, "#zip", tmp_path / "recordings.zip")
    hear_file(page, write_words(tmp_path / "words.wav", SAID[:3]), 3)
    asked = [url for url in asked if not url.startswith(f"blob:{address}/")]
    assert {url.removeprefix(address).partition("?")[0] for url in asked} >= {"/", "/app.js", "/v1/stream", "/v1/recognize"}
    assert [url for url in asked if not url.startswith(f"{address}/")] == []
    assert told == []
