"""A scripted person judges pairs in Chromium."""

import json
import shutil
import subprocess

import pytest
from conftest import ROOT
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

SAMPLES = 6


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not chromium or not driver:
        pytest.skip("there is no chromium with chromedriver; Debian: `apt-get install chromium chromium-driver`")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in [*ARGUMENTS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(argument)
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture(scope="module")
def run(isr, tmp_path_factory):
    """A run with six pairs about one clip."""
    folder = tmp_path_factory.mktemp("annotate")
    settings = ["dir=world", "training_clips=1", "evaluation_clips=0", "size=64", "frames=8"]
    changes = [word for setting in settings for word in ("-s", f"data.{setting}")]
    render = [isr, "world", "render", str(ROOT / "configs/quickstart.toml"), *changes]
    subprocess.run(render, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    clip = next(folder.glob("world/**/*.mp4")).relative_to(folder)
    iteration = folder / "run" / "iteration-01"
    iteration.mkdir(parents=True)
    rest = {"token_ids": [1], "logprobs": [-1.0], "finish_reason": "stop", "policy": "p"}
    with open(iteration / "responses.jsonl", "w") as file:
        for index in range(SAMPLES):
            texts = [f"one <b>of</b> {index}", f"two of {index}"]
            responses = [{"text": text, **rest} for text in texts]
            about = {"sample": f"s{index}", "video": str(clip), "instruction": f"What is shown in {index}?"}
            file.write(json.dumps({**about, "seed": 0, "responses": responses}) + "\n")
    return folder


@pytest.fixture
def page(isr, run, started, browser):
    """Opens the page of a new server, and can start it again."""
    servers = []

    def open_page():
        if servers:
            servers[-1].stop()
        servers.append(started([isr, "annotate", "run", "--annotator", "ann", "--port", "0"], run))
        browser.get(servers[-1].address)
        return shown(browser)

    yield open_page
    servers[-1].stop()


def shown(browser, before=None):
    """Waits for a pair other than `before`; returns its index, or `none`."""

    def another(browser):
        case = browser.execute_script("return document.body.dataset.case")
        return case if case not in (None, before) else False

    return WebDriverWait(browser, 20).until(another)


def text(browser, name):
    return browser.find_element(By.ID, name).text


def press(browser, key):
    browser.switch_to.active_element.send_keys(key)


def lines(run):
    return [json.loads(line) for line in (run / "run" / "annotations.jsonl").read_text().splitlines()]


def test_five_pairs_judged_by_keys_and_buttons_are_five_right_lines_and_a_restart_goes_on(browser, page, run):
    case = page()
    wanted = []
    # Always the answer that the run has first, twice each way, and then neither.
    for place, how in enumerate(["key", "key", "button", "button", "tie"]):
        left = text(browser, "left")
        sample = text(browser, "instruction").removeprefix("What is shown in ").removesuffix("?")
        side = "left" if left.startswith("one <b>of</b>") else "right"
        wanted.append(("s" + sample, "tie" if how == "tie" else "first", side == "left"))
        if how == "key":
            press(browser, "1" if side == "left" else "2")
        elif how == "tie":
            press(browser, "3")
        else:
            browser.find_element(By.ID, f"pick-{side}").click()
        case = shown(browser, case)
        assert text(browser, "count") == f"{place + 1} of {SAMPLES}"
    recorded = lines(run)
    assert [(it["sample"], it["choice"], it["first_shown_first"]) for it in recorded] == wanted
    assert all(it["annotator"] == "ann" and it["iteration"] == 1 and 0 < it["seconds"] < 60 for it in recorded)

    assert page() == case, "the pair that was left"
    assert text(browser, "count") == f"5 of {SAMPLES}"
    press(browser, "u")
    undone = shown(browser, case)
    assert text(browser, "count") == f"4 of {SAMPLES}" and lines(run) == recorded[:4]
    press(browser, "3")
    assert shown(browser, undone) == case
    press(browser, "s")
    WebDriverWait(browser, 20).until(lambda browser: "1 skipped" in text(browser, "count"))
    press(browser, "2")
    assert shown(browser, case) == "none"
    assert "All pairs are done" in text(browser, "message")
    assert sorted(it["sample"] for it in lines(run)) == sorted(f"s{index}" for index in range(SAMPLES))


def test_the_clip_plays_and_the_page_asks_nobody_else(browser, page, run):
    (run / "run" / "annotations.jsonl").unlink(missing_ok=True)
    page()
    size = "const clip = document.getElementById('clip'); return clip.readyState > 0 && clip.videoWidth"
    assert WebDriverWait(browser, 20).until(lambda browser: browser.execute_script(size)) == 64
    entries = "return performance.getEntriesByType('resource').map((entry) => entry.name)"
    here = browser.execute_script("return location.origin + '/'")
    assert all(name.startswith((here, "data:")) for name in browser.execute_script(entries))


def test_what_a_screen_reader_says_has_names(browser, page):
    page()
    for name in ["clip", "pick-left", "pick-right", "pick-tie", "pick-skip", "undo", "bar"]:
        assert browser.find_element(By.ID, name).accessible_name.strip(), name
    assert browser.find_element(By.ID, "message").get_attribute("aria-live") == "polite"
    assert browser.switch_to.active_element.get_attribute("id") == "instruction"
